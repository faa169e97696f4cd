// The order of samples is a permutation of every epoch, differs between epochs and seeds, looks
// uniform, and never changes between versions.
#include "data/sample_order.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"

namespace tessera::data {
namespace {

std::vector<std::int64_t> epoch_of(std::uint64_t seed, std::int64_t n, std::int64_t epoch) {
  const SampleOrder order(seed, n);
  std::vector<std::int64_t> result;
  for (std::int64_t i = 0; i < n; ++i) result.push_back(order.at(epoch * n + i));
  return result;
}

void expect_permutation(std::vector<std::int64_t> values) {
  std::sort(values.begin(), values.end());
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(values[i], static_cast<std::int64_t>(i)) << "of " << values.size();
}

TEST(SampleOrder, IsAPermutationOfEverySmallSize) {
  for (std::int64_t n = 1; n <= 300; ++n)
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) expect_permutation(epoch_of(7, n, epoch));
}

TEST(SampleOrder, IsAPermutationOfLargeSizes) {
  for (const std::int64_t n : {65535, 65536, 65537, 100003, 262144})
    expect_permutation(epoch_of(3, n, 5));
}

TEST(SampleOrder, StaysInRangeAtTheLargestSizes) {
  for (const std::int64_t n : {std::int64_t{1} << 40, (std::int64_t{1} << 62) + 1, INT64_MAX}) {
    const SampleOrder order(11, n);
    std::set<std::int64_t> seen;
    for (std::int64_t p = 0; p < 1000; ++p) {
      const std::int64_t sample = order.at(p);
      EXPECT_GE(sample, 0);
      EXPECT_LT(sample, n);
      seen.insert(sample);
    }
    EXPECT_EQ(seen.size(), 1000u);
    EXPECT_LT(order.at(INT64_MAX), n);
  }
}

TEST(SampleOrder, EpochsAndSeedsDiffer) {
  const auto base = epoch_of(1, 1000, 0);
  const auto same_places = [&](const std::vector<std::int64_t>& other) {
    std::int64_t same = 0;
    for (std::size_t i = 0; i < base.size(); ++i) same += base[i] == other[i];
    return same;
  };
  EXPECT_LT(same_places(epoch_of(1, 1000, 1)), 10);
  EXPECT_LT(same_places(epoch_of(1, 1000, std::int64_t{1} << 40)), 10);
  EXPECT_LT(same_places(epoch_of(2, 1000, 0)), 10);
  EXPECT_LT(same_places(epoch_of(1ull << 32 | 1, 1000, 0)), 10);
  EXPECT_EQ(same_places(epoch_of(1, 1000, 0)), 1000);
}

TEST(SampleOrder, EverySampleIsEquallyLikelyEverywhere) {
  // Counts of (place, sample) over many epochs against the uniform expectation.
  const std::int64_t n = 12, epochs = 12000;
  std::vector<std::int64_t> counts(static_cast<std::size_t>(n * n));
  for (std::int64_t e = 0; e < epochs; ++e) {
    const auto order = epoch_of(99, n, e);
    for (std::int64_t i = 0; i < n; ++i)
      ++counts[static_cast<std::size_t>(i * n + order[static_cast<std::size_t>(i)])];
  }
  const double expected = static_cast<double>(epochs) / static_cast<double>(n);
  double chi2 = 0;
  for (const std::int64_t count : counts)
    chi2 += (static_cast<double>(count) - expected) * (static_cast<double>(count) - expected) /
            expected;
  // (n - 1)^2 = 121 degrees of freedom: mean 121, standard deviation 15.6.
  EXPECT_LT(chi2, 200);
  EXPECT_GT(chi2, 60);
}

TEST(SampleOrder, NeighboursAreUncorrelated) {
  const std::int64_t n = 20000;
  const auto order = epoch_of(5, n, 0);
  const double mean = static_cast<double>(n - 1) / 2;
  double product = 0, square = 0;
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    const double a = static_cast<double>(order[i]) - mean,
                 b = static_cast<double>(order[i + 1]) - mean;
    product += a * b;
    square += a * a;
  }
  EXPECT_LT(std::abs(product / square), 5 / std::sqrt(static_cast<double>(n)));
}

// Runs are reproducible through these numbers: they must never change.
TEST(SampleOrder, KnownAnswers) {
  EXPECT_EQ(epoch_of(1, 10, 0), (std::vector<std::int64_t>{7, 9, 0, 2, 5, 6, 4, 8, 3, 1}));
  EXPECT_EQ(epoch_of(1, 10, 1), (std::vector<std::int64_t>{5, 9, 1, 3, 6, 2, 8, 0, 7, 4}));
  EXPECT_EQ(epoch_of(1234, 17, 3),
            (std::vector<std::int64_t>{3, 1, 5, 10, 4, 11, 12, 8, 13, 2, 0, 14, 15, 9, 6, 7, 16}));
  const SampleOrder large(42, 1000000007);
  EXPECT_EQ(large.at(0), 154400497);
  EXPECT_EQ(large.at(1000000007), 242343212);
  EXPECT_EQ(large.at(123456789012345), 923972797);
}

TEST(SampleOrder, RefusesNonsense) {
  EXPECT_THROW(SampleOrder(1, 0).at(0), Error);
  EXPECT_THROW(SampleOrder(1, 5).at(-1), Error);
}

}  // namespace
}  // namespace tessera::data
