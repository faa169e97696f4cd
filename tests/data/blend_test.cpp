// A blend gives each source its share to within one sample at every moment, at any weights.
#include "data/blend.h"

#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "core/random.h"
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

// Whole weights, against themselves and not against what the blend made of them: for each source,
// |drawn x sum - weight x positions| < sum at every position of two periods.
void expect_shares(const std::vector<std::int64_t>& weights) {
  const Blend blend(std::vector<double>(weights.begin(), weights.end()));
  const std::int64_t sum = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
  std::vector<std::int64_t> drawn(weights.size());
  for (std::int64_t p = 0; p < 2 * blend.period(); ++p) {
    const Blend::Draw draw = blend.at(p);
    ASSERT_EQ(draw.index, drawn[draw.source]++);
    for (std::size_t i = 0; i < weights.size(); ++i)
      ASSERT_LT(std::abs(drawn[i] * sum - weights[i] * (p + 1)), sum)
          << "source " << i << " of " << weights.size() << " after " << p + 1;
    if (p % 97 == 0) {
      ASSERT_EQ(blend.draws(p + 1), drawn);
    }
  }
}

TEST(Blend, KeepsExtremeEqualAndManyWeights) {
  expect_shares({1, 1000});
  expect_shares({1000, 1});
  expect_shares({1, 99991});
  expect_shares({1, 500, 1});
  expect_shares({999, 1, 1000, 1});
  expect_shares(std::vector<std::int64_t>(64, 3));
  expect_shares(std::vector<std::int64_t>(1000, 1));
  std::vector<std::int64_t> doubling, rising;
  for (std::int64_t i = 0; i < 14; ++i) doubling.push_back(std::int64_t{1} << i);
  for (std::int64_t i = 1; i <= 100; ++i) rising.push_back(i);
  expect_shares(doubling);
  expect_shares(rising);
}

TEST(Blend, KeepsRandomWholeWeights) {
  const CounterRandom random(11, hash_name("weights"));
  std::uint64_t draw = 0;
  const auto below = [&](std::uint64_t bound) {
    return static_cast<std::int64_t>(random.bits(draw++) % bound);
  };
  for (int set = 0; set < 300; ++set) {
    std::vector<std::int64_t> weights(static_cast<std::size_t>(2 + below(11)));
    const auto largest = std::uint64_t{1} << (1 + below(9));
    for (std::int64_t& weight : weights) weight = 1 + below(largest);
    expect_shares(weights);
  }
}

TEST(Blend, KeepsRandomFractionsToTheRoundingOfOnePeriod) {
  const CounterRandom random(12, hash_name("weights"));
  std::uint64_t draw = 0;
  for (int set = 0; set < 8; ++set) {
    std::vector<double> weights;
    double sum = 0;
    for (int i = 0; i < 2 + set; ++i) {
      weights.push_back(std::exp(2 * random.normal(draw++)));
      sum += weights.back();
    }
    const Blend blend(weights);
    std::vector<std::int64_t> drawn(weights.size());
    for (std::int64_t p = 0; p < 200000; ++p) {
      ++drawn[blend.at(p).source];
      const double positions = static_cast<double>(p + 1);
      for (std::size_t i = 0; i < weights.size(); ++i)
        ASSERT_LT(std::abs(static_cast<double>(drawn[i]) - weights[i] / sum * positions),
                  1 + positions / Blend::kLargestPeriod);
    }
    EXPECT_EQ(blend.draws(200000), drawn);
  }
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
