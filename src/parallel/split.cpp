#include "parallel/split.h"

#include <algorithm>
#include <limits>

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
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const auto width = static_cast<std::size_t>(pieces + 1);
  // Of the first p pieces in r runs: the least value of `join` over the runs, none above `limit`;
  // from[r][p] is the start of the last run.
  std::vector<std::vector<std::size_t>> from;
  const auto least = [&](double limit, auto join) {
    std::vector<std::vector<double>> best(static_cast<std::size_t>(runs + 1),
                                          std::vector<double>(width, kNever));
    from.assign(best.size(), std::vector<std::size_t>(width));
    best[0][0] = 0;
    for (std::size_t r = 1; r < best.size(); ++r)
      for (std::size_t end = r; end < width; ++end) {
        double run = 0;
        for (std::size_t begin = end; begin-- > r - 1;) {
          run += costs[begin];
          if (run > limit) break;
          const double value = join(best[r - 1][begin], run);
          if (value >= best[r][end]) continue;
          best[r][end] = value;
          from[r][end] = begin;
        }
      }
    return best.back().back();
  };
  const double largest =
      least(kNever, [](double before, double run) { return std::max(before, run); });
  least(largest, [](double before, double run) { return before + run * run; });
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
