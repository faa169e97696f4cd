#include "parallel/split.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"

namespace tessera::parallel {

std::vector<PieceRange> split_pieces(const std::vector<double>& costs, std::int64_t stages,
                                     std::int64_t chunks) {
  const auto pieces = static_cast<std::int64_t>(costs.size());
  const std::int64_t runs = stages * chunks;
  if (pieces < runs)
    throw Error(Category::config,
                fmt::format("parallel.pipeline = {} x parallel.virtual_stages = {} asks for {} "
                            "runs of layers, but the model has {} pieces",
                            stages, chunks, runs, pieces));
  // best[r][p]: (largest run, sum of squares) of the first p pieces in r runs; from[r][p]: the
  // start of its last run.
  using Value = std::pair<double, double>;
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const auto width = static_cast<std::size_t>(pieces + 1);
  std::vector<std::vector<Value>> best(static_cast<std::size_t>(runs + 1),
                                       std::vector<Value>(width, {kNever, kNever}));
  std::vector<std::vector<std::size_t>> from(best.size(), std::vector<std::size_t>(width));
  best[0][0] = {0, 0};
  for (std::size_t r = 1; r < best.size(); ++r)
    for (std::size_t end = r; end < width; ++end) {
      double run = 0;
      for (std::size_t begin = end; begin-- >= r;) {
        run += costs[begin];
        const Value& before = best[r - 1][begin];
        const Value value{std::max(before.first, run), before.second + run * run};
        if (value < best[r][end]) {
          best[r][end] = value;
          from[r][end] = begin;
        }
        if (begin == 0) break;
      }
    }
  std::vector<PieceRange> ranges(static_cast<std::size_t>(runs));
  std::size_t end = width - 1;
  for (std::size_t r = ranges.size(); r-- > 0;) {
    const std::size_t begin = from[r + 1][end];
    ranges[r] = {static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end)};
    end = begin;
  }
  return ranges;
}

}  // namespace tessera::parallel
