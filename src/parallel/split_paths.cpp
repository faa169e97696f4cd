#include "parallel/split_paths.h"

#include <algorithm>

namespace tessera::parallel {
namespace {

std::size_t index(std::int64_t value) {
  return static_cast<std::size_t>(value);
}

}  // namespace

std::vector<std::int64_t> stage_sums(const SplitProblem& problem, const Cuts& cuts) {
  std::vector<std::int64_t> sums(index(problem.stages));
  for (std::int64_t run = 0; run < problem.runs(); ++run)
    sums[index(run % problem.stages)] += problem.cost(cuts[index(run)], cuts[index(run + 1)]);
  return sums;
}

SplitScore score(const SplitProblem& problem, const Cuts& cuts) {
  SplitScore result;
  for (const std::int64_t sum : stage_sums(problem, cuts))
    result.stage = std::max(result.stage, sum);
  for (std::size_t run = 0; run + 1 < cuts.size(); ++run) {
    const std::int64_t cost = problem.cost(cuts[run], cuts[run + 1]);
    result.run = std::max(result.run, cost);
    result.squares += cost * cost;
  }
  return result;
}

std::int64_t least_longest(const SplitProblem& problem) {
  std::int64_t low = 1, high = problem.total();
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    // As long as fits, leaving a piece for every run behind.
    std::int64_t at = 0, runs = problem.runs();
    for (bool fits = true; fits && runs > 0; --runs) {
      const std::int64_t last = problem.pieces() - (runs - 1), begin = at;
      while (at < last && problem.cost(begin, at + 1) <= middle) ++at;
      fits = at > begin;
    }
    (at == problem.pieces() ? high : low) = at == problem.pieces() ? middle : middle + 1;
  }
  return low;
}

// use(end, squares) for every end of the first of `runs` runs from `begin`.
template <typename Use>
void Tails::each_end(std::int64_t runs, std::int64_t begin, const Use& use) const {
  for (std::int64_t end = begin + 1; end <= problem_.pieces() - runs + 1; ++end) {
    const std::int64_t run = problem_.cost(begin, end), rest = least(runs - 1, end);
    if (run > longest_) break;
    if (rest != kNever) use(end, rest + run * run);
  }
}

Tails::Tails(const SplitProblem& problem, std::int64_t longest)
    : problem_(problem),
      longest_(longest),
      width_(problem.pieces() + 1),
      least_(index((problem.runs() + 1) * width_), kNever) {
  least_[index(problem.pieces())] = 0;
  for (std::int64_t runs = 1; runs <= problem.runs(); ++runs)
    for (std::int64_t begin = 0; begin < problem.pieces(); ++begin) {
      std::int64_t& here = least_[index(runs * width_ + begin)];
      each_end(runs, begin,
               [&](std::int64_t, std::int64_t squares) { here = std::min(here, squares); });
    }
}

Cuts Tails::cuts() const {
  Cuts result{0};
  for (std::int64_t runs = problem_.runs(); runs > 0; --runs) {
    const std::int64_t begin = result.back();
    std::int64_t chosen = 0;
    each_end(runs, begin, [&](std::int64_t end, std::int64_t squares) {
      if (chosen == 0 && squares == least(runs, begin)) chosen = end;
    });
    result.push_back(chosen);
  }
  return result;
}

}  // namespace tessera::parallel
