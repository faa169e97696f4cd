// A blend gives each source its share to within one sample at every moment, at any weights.
#include "data/blend.h"

#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/data/data_support.h"

namespace tessera::data {
namespace {

void expect_exact(const std::vector<double>& weights, std::int64_t positions) {
  const Blend blend(weights);
  const double period = static_cast<double>(blend.period());
  std::vector<std::int64_t> drawn(weights.size());
  for (std::int64_t p = 0; p < positions; ++p) {
    const Blend::Draw draw = blend.at(p);
    ASSERT_LT(draw.source, weights.size());
    ASSERT_EQ(draw.index, drawn[draw.source]) << "position " << p;
    ++drawn[draw.source];
    ASSERT_EQ(blend.positions_for(draw.source, drawn[draw.source]), p + 1);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double share = static_cast<double>(blend.parts()[i]) / period;
      ASSERT_LT(std::abs(static_cast<double>(drawn[i]) - share * static_cast<double>(p + 1)), 1)
          << "source " << i << " after " << p + 1;
    }
  }
}

TEST(Blend, IsExactToOneSampleAtEveryMoment) {
  expect_exact({1}, 10);
  expect_exact({1, 1}, 50);
  expect_exact({3, 1}, 100);
  expect_exact({0.7, 0.2, 0.1}, 500);
  expect_exact({5, 4, 3, 2, 1, 1, 1}, 500);
  expect_exact({100, 1, 1, 1}, 1000);
}

TEST(Blend, SimpleWeightsHaveAShortPeriodAndAreExact) {
  EXPECT_EQ(Blend({0.7, 0.2, 0.1}).period(), 10);
  EXPECT_EQ(Blend({1, 1, 1}).period(), 3);
  EXPECT_EQ(Blend({2, 2}).period(), 2);
  EXPECT_EQ(Blend({12.5, 37.5}).parts(), (std::vector<std::int64_t>{1, 3}));
}

TEST(Blend, OtherWeightsAreRoundedToAMillionth) {
  const std::vector<double> weights = {std::sqrt(2.0), std::exp(1.0), 3.14159265358979};
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const Blend blend(weights);
  EXPECT_EQ(blend.period(), Blend::kLargestPeriod);
  for (std::size_t i = 0; i < weights.size(); ++i)
    EXPECT_NEAR(static_cast<double>(blend.parts()[i]) / static_cast<double>(blend.period()),
                weights[i] / sum, 1e-6);
  // Far positions cost the same and follow from the period.
  const auto near = blend.at(12345), far = blend.at(12345 + 7 * blend.period());
  EXPECT_EQ(near.source, far.source);
  EXPECT_EQ(far.index, near.index + 7 * blend.parts()[near.source]);
}

TEST(Blend, RefusesBadWeights) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, nan, infinity})
    expect_error(Category::config, {"weight", "positive"}, [&] { Blend({1, bad}); });
  expect_error(Category::config, {"source 1", "too small"}, [] { Blend({1, 1e-9}); });
  expect_error(Category::config, {"weights"}, [] { Blend({}); });
}

}  // namespace
}  // namespace tessera::data
