// Splits of pieces over stages: the optimum by trying all cuts of small lists, what must hold for
// large ones, and the refusals.
#include "parallel/split.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include <gtest/gtest.h>

#include "core/error.h"

namespace tessera::parallel {
namespace {

using Score = std::pair<double, double>;  // largest run, sum of squares

Score score(const std::vector<double>& costs, const std::vector<PieceRange>& ranges) {
  Score result{0, 0};
  for (const PieceRange& r : ranges) {
    const double sum = std::accumulate(costs.begin() + r.begin, costs.begin() + r.end, 0.0);
    result.first = std::max(result.first, sum);
    result.second += sum * sum;
  }
  return result;
}

// Runs that follow each other from the first piece to the last, none empty.
void expect_covers(const std::vector<PieceRange>& ranges, std::int64_t pieces, std::int64_t runs) {
  ASSERT_EQ(std::ssize(ranges), runs);
  std::int64_t at = 0;
  for (const PieceRange& range : ranges) {
    ASSERT_EQ(range.begin, at);
    ASSERT_GT(range.end, range.begin);
    at = range.end;
  }
  ASSERT_EQ(at, pieces);
}

// The best score of all cuts, one by one.
Score best_by_trying(const std::vector<double>& costs, std::int64_t runs) {
  std::vector<bool> chosen(costs.size() - 1);  // which inner borders are cut
  std::fill(chosen.end() - (runs - 1), chosen.end(), true);
  Score best{1e300, 1e300};
  do {
    std::vector<PieceRange> ranges = {{0, 0}};
    for (std::size_t i = 0; i < costs.size(); ++i) {
      ++ranges.back().end;
      if (i + 1 < costs.size() && chosen[i])
        ranges.push_back({ranges.back().end, ranges.back().end});
    }
    best = std::min(best, score(costs, ranges));
  } while (std::next_permutation(chosen.begin(), chosen.end()));
  return best;
}

TEST(Split, IsTheBestOfAllCuts) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<double> costs(3 + random() % 9);
    for (double& cost : costs) cost = 1.0 + double(random() % 20);
    if (round % 3 == 0) costs.back() = 60;  // a heavy head
    for (std::int64_t runs = 1; runs <= std::min<std::int64_t>(6, std::ssize(costs)); ++runs) {
      const auto ranges = split_pieces(costs, runs, 1);
      expect_covers(ranges, std::ssize(costs), runs);
      EXPECT_EQ(score(costs, ranges), best_by_trying(costs, runs));
      if (runs % 2 == 0) {
        EXPECT_EQ(split_pieces(costs, runs / 2, 2), ranges);
      }
    }
  }
}

TEST(Split, TakesLongListsAndIsDeterministic) {
  std::mt19937 random(9);
  std::vector<double> costs(200);
  for (double& cost : costs) cost = 0.1 + double(random() % 1000) / 100;
  const auto ranges = split_pieces(costs, 32, 2);
  expect_covers(ranges, 200, 64);
  EXPECT_EQ(split_pieces(costs, 32, 2), ranges);
  const double least = std::max(*std::max_element(costs.begin(), costs.end()),
                                std::accumulate(costs.begin(), costs.end(), 0.0) / 64);
  EXPECT_LT(score(costs, ranges).first, 2 * least);
}

TEST(Split, RefusesMoreRunsThanPieces) {
  try {
    split_pieces({1, 1, 1}, 2, 2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::config);
    EXPECT_NE(std::string(error.what()).find("parallel.virtual_stages = 2"), std::string::npos);
  }
}

}  // namespace
}  // namespace tessera::parallel
