// Sampling: frequencies against the softmax, cuts, masks, and what randomness depends on.
#include "infer/sampler.h"

#include <cmath>
#include <set>

#include <gtest/gtest.h>

namespace tessera::infer {
namespace {

const std::vector<float> kLogits = {0.5f, -1.0f, 2.0f, 0.0f, 1.0f, -3.0f};

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
  Sampler sampler({}, {});
  EXPECT_EQ(sampler.choose(kLogits.data(), 6, 0, 0), 2);
  const std::vector<float> equal = {1, 3, 3};
  EXPECT_EQ(sampler.choose(equal.data(), 3, 0, 0), 1);
}

// Chi-square against softmax(logits / T): 5 degrees of freedom, 99.99 % point 25.7.
TEST(Sampler, FrequenciesFollowTheSoftmax) {
  for (const double temperature : {0.7, 1.0, 2.0}) {
    SamplingOptions options;
    options.temperature = temperature;
    Sampler sampler(options, {});
    double sum = 0;
    for (const float z : kLogits) sum += std::exp(z / temperature);
    std::vector<int> counts(6);
    const int n = 30000;
    for (int i = 0; i < n; ++i)
      ++counts[static_cast<std::size_t>(sampler.choose(kLogits.data(), 6, 3, i))];
    double chi = 0;
    for (std::size_t v = 0; v < 6; ++v) {
      const double expected = n * std::exp(kLogits[v] / temperature) / sum;
      chi += (counts[v] - expected) * (counts[v] - expected) / expected;
    }
    EXPECT_LT(chi, 25.7) << "temperature " << temperature;
  }
}

std::set<std::int32_t> chosen(const SamplingOptions& options, std::vector<bool> allowed = {}) {
  Sampler sampler(options, std::move(allowed));
  std::set<std::int32_t> ids;
  for (int i = 0; i < 3000; ++i) ids.insert(sampler.choose(kLogits.data(), 6, 0, i));
  return ids;
}

TEST(Sampler, TopKAndTopPAndMask) {
  SamplingOptions options;
  options.temperature = 5;
  EXPECT_EQ(chosen(options).size(), 6u);
  EXPECT_EQ(chosen(options, {true, false, false, true}), (std::set<std::int32_t>{0, 3}));
  options.top_k = 2;
  EXPECT_EQ(chosen(options), (std::set<std::int32_t>{2, 4}));
  options.top_k = 0;
  options.temperature = 1;
  options.top_p = 0.6;  // softmax: 0.54 for 2, 0.20 for 4
  EXPECT_EQ(chosen(options), (std::set<std::int32_t>{2, 4}));
  options.top_p = 0.01;
  EXPECT_EQ(chosen(options), (std::set<std::int32_t>{2}));
}

TEST(Sampler, DependsOnSeedPromptAndPositionAlone) {
  SamplingOptions options;
  options.temperature = 3;
  Sampler a(options, {}), b(options, {});
  std::vector<std::int32_t> forward, backward;
  for (int i = 0; i < 50; ++i) forward.push_back(a.choose(kLogits.data(), 6, 1, i));
  for (int i = 49; i >= 0; --i) backward.push_back(b.choose(kLogits.data(), 6, 1, i));
  std::reverse(backward.begin(), backward.end());
  EXPECT_EQ(forward, backward);
  std::vector<std::int32_t> other;
  for (int i = 0; i < 50; ++i) other.push_back(a.choose(kLogits.data(), 6, 2, i));
  EXPECT_NE(forward, other);
}

}  // namespace
}  // namespace tessera::infer
