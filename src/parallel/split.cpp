#include "parallel/split.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "core/error.h"
#include "parallel/split_search.h"

namespace tessera::parallel {
namespace {

constexpr std::int64_t kMostTotal = std::int64_t{1} << 31;

// Costs as whole numbers, so that equal sums are equal whatever the order of adding.
std::vector<std::int64_t> whole(const std::vector<double>& costs) {
  double total = 0;
  std::int64_t divisor = 0;
  bool exact = true;
  for (const double cost : costs) {
    TESSERA_CHECK(std::isfinite(cost) && cost > 0);
    total += cost;
    exact = exact && cost < 9e15 && cost == std::floor(cost);
    if (exact) divisor = std::gcd(divisor, static_cast<std::int64_t>(cost));
  }
  TESSERA_CHECK(std::isfinite(total));
  exact = exact && total / static_cast<double>(divisor) < static_cast<double>(kMostTotal);
  std::vector<std::int64_t> result;
  for (const double cost : costs)
    result.push_back(exact ? static_cast<std::int64_t>(cost) / divisor
                           : std::max<std::int64_t>(1, std::llround(cost / total * 1e9)));
  return result;
}

std::string too_few(std::int64_t pieces, std::int64_t stages, std::int64_t chunks) {
  const std::string model = "the model has " + std::to_string(pieces) +
                            " pieces (embeddings, layers, norms, head) and each needs one; ";
  if (chunks == 1)
    return "parallel.pipeline: found " + std::to_string(stages) + " stages, but " + model +
           "set at most " + std::to_string(pieces);
  const std::int64_t fit = std::max<std::int64_t>(pieces / chunks, 1);
  return "parallel.pipeline x parallel.virtual_stages: found " + std::to_string(stages) + " x " +
         std::to_string(chunks) + " virtual stages, but " + model + "set at most " +
         std::to_string(fit) + " x " + std::to_string(std::min(chunks, pieces));
}

}  // namespace

std::vector<PieceRange> split_pieces(const std::vector<double>& costs, std::int64_t stages,
                                     std::int64_t chunks) {
  TESSERA_CHECK(stages >= 1 && chunks >= 1);
  const std::int64_t pieces = std::ssize(costs);
  TESSERA_CHECK(pieces >= 1);
  if (stages > pieces / chunks) throw Error(Category::config, too_few(pieces, stages, chunks));
  SplitProblem problem{{0}, stages, chunks};
  for (const std::int64_t cost : whole(costs))
    problem.before.push_back(problem.before.back() + cost);
  const Cuts cuts = best_cuts(problem).cuts;
  std::vector<PieceRange> result;
  for (std::size_t run = 0; run + 1 < cuts.size(); ++run)
    result.push_back({cuts[run], cuts[run + 1]});
  return result;
}

}  // namespace tessera::parallel
