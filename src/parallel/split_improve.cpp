#include "parallel/split_improve.h"

#include <algorithm>

namespace tessera::parallel {
namespace {

std::size_t index(std::int64_t value) {
  return static_cast<std::size_t>(value);
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

// Windows that are the runs of one chunk, until none gets better.
void improve_chunks(const SplitProblem& problem, Cuts& cuts) {
  for (bool better = true; better;) {
    better = false;
    for (std::int64_t first = 0; first < problem.runs(); first += problem.stages)
      better |= improve_window(problem, cuts, first);
  }
}

// Cuts the runs of a chunk evenly between its borders.
void cut_evenly(const SplitProblem& problem, Cuts& cuts, std::int64_t chunk) {
  const std::int64_t first = chunk * problem.stages, end = cuts[index(first + problem.stages)];
  for (std::int64_t left = problem.stages; left > 1; --left) {
    const std::int64_t begin = cuts[index(first + problem.stages - left)];
    const std::int64_t even = problem.cost(begin, end) / left;
    std::int64_t at = begin + 1;
    while (at < end - left + 1 &&
           2 * problem.cost(begin, at) + problem.cost(at, at + 1) <= 2 * even)
      ++at;
    cuts[index(first + problem.stages - left + 1)] = at;
  }
}

// With the border behind `chunk` at `place`: the chunks on either side of it alone, or all chunks
// with as many pieces each as those on their side of it, cut evenly and improved.
Cuts with_border(const SplitProblem& problem, Cuts cuts, std::int64_t chunk, std::int64_t place,
                 bool all) {
  const std::int64_t before = chunk + 1, behind = problem.chunks - before;
  const auto border = [&](std::int64_t i) -> std::int64_t& {
    return cuts[index(i * problem.stages)];
  };
  border(before) = place;
  if (all) {
    for (std::int64_t i = 1; i < before; ++i) border(i) = place * i / before;
    for (std::int64_t i = 1; i < behind; ++i)
      border(before + i) = place + (problem.pieces() - place) * i / behind;
  }
  for (std::int64_t i = all ? 0 : chunk; i < (all ? problem.chunks : chunk + 2); ++i)
    cut_evenly(problem, cuts, i);
  improve_chunks(problem, cuts);
  return cuts;
}

// The best place of the border behind `chunk`; whether it made the score better.
bool improve_border(const SplitProblem& problem, Cuts& cuts, std::int64_t chunk) {
  const std::int64_t stages = problem.stages, border = (chunk + 1) * stages;
  const Cuts was = cuts;
  SplitScore best = score(problem, cuts);
  const auto offer = [&](const Cuts& tried) {
    const SplitScore found = score(problem, tried);
    if (!(found < best)) return;
    best = found;
    cuts = tried;
  };
  // Every chunk keeps a piece a stage.
  for (std::int64_t place = border; place <= problem.pieces() - (problem.runs() - border);
       ++place) {
    if (was[index(border - stages)] + stages <= place &&
        place <= was[index(border + stages)] - stages)
      offer(with_border(problem, was, chunk, place, false));
    if (problem.chunks > 2) offer(with_border(problem, was, chunk, place, true));
  }
  return cuts != was;
}

}  // namespace

void improve_windows(const SplitProblem& problem, Cuts& cuts) {
  for (bool better = true; better;) {
    better = false;
    for (std::int64_t first = 0; first + problem.stages <= problem.runs(); ++first)
      better |= improve_window(problem, cuts, first);
  }
}

void improve_borders(const SplitProblem& problem, Cuts& cuts) {
  for (bool better = true; better;) {
    better = false;
    for (std::int64_t chunk = 0; chunk + 1 < problem.chunks; ++chunk)
      better |= improve_border(problem, cuts, chunk);
    improve_windows(problem, cuts);
  }
}

}  // namespace tessera::parallel
