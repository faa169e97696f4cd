#include "parallel/split_paths.h"

#include <algorithm>

namespace tessera::parallel {
namespace {

std::size_t index(std::int64_t value) {
  return static_cast<std::size_t>(value);
}

std::vector<std::int64_t> stage_sums(const SplitProblem& problem, const Cuts& cuts) {
  std::vector<std::int64_t> sums(index(problem.stages));
  for (std::int64_t run = 0; run < problem.runs(); ++run)
    sums[index(run % problem.stages)] += problem.cost(cuts[index(run)], cuts[index(run + 1)]);
  return sums;
}

// Cuts the runs first .. first + stages - 1, one of every stage, anew in the best way that leaves
// the others; whether that is better.
bool improve_window(const SplitProblem& problem, Cuts& cuts, std::int64_t first) {
  const std::int64_t stages = problem.stages, begin = cuts[index(first)],
                     end = cuts[index(first + stages)], width = end - begin + 1;
  const SplitScore now = score(problem, cuts);
  std::vector<std::int64_t> others = stage_sums(problem, cuts);
  SplitScore rest;  // of the other runs
  for (std::int64_t run = 0; run < problem.runs(); ++run) {
    const std::int64_t cost = problem.cost(cuts[index(run)], cuts[index(run + 1)]);
    if (first <= run && run < first + stages) {
      others[index(run % stages)] -= cost;
    } else {
      rest.run = std::max(rest.run, cost);
      rest.squares += cost * cost;
    }
  }
  const SplitScore none{kNever, kNever, kNever};
  // [runs left][piece]: score from here on, and the end of the next run.
  std::vector<SplitScore> best(index((stages + 1) * width), none);
  std::vector<std::int64_t> next(best.size());
  best[index(width - 1)] = rest;
  for (std::int64_t left = 1; left <= stages; ++left) {
    const std::int64_t other = others[index((first + stages - left) % stages)];
    for (std::int64_t at = stages - left; at + left < width; ++at)
      for (std::int64_t to = at + 1; to + left - 1 < width; ++to) {
        const std::int64_t cost = problem.cost(begin + at, begin + to);
        if (other + cost > now.stage) break;
        const SplitScore& tail = best[index((left - 1) * width + to)];
        if (tail == none) continue;
        const SplitScore candidate{std::max(tail.stage, other + cost), std::max(tail.run, cost),
                                   tail.squares + cost * cost};
        if (candidate < best[index(left * width + at)]) {
          best[index(left * width + at)] = candidate;
          next[index(left * width + at)] = to;
        }
      }
  }
  if (!(best[index(stages * width)] < now)) return false;
  std::int64_t at = 0;
  for (std::int64_t left = stages; left > 1; --left) {
    at = next[index(left * width + at)];
    cuts[index(first + stages - left + 1)] = begin + at;
  }
  return true;
}

}  // namespace

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

void improve_windows(const SplitProblem& problem, Cuts& cuts) {
  for (bool better = true; better;) {
    better = false;
    for (std::int64_t first = 0; first + problem.stages <= problem.runs(); ++first)
      better |= improve_window(problem, cuts, first);
  }
}

}  // namespace tessera::parallel
