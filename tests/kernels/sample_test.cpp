// Choosing tokens: frequencies against the softmax, cuts, masks, books, and what randomness depends
// on.
#include "kernels/sample.h"

#include <set>

#include "kernels/sample_weight.h"
#include "tests/kernels/kernel_check.h"
#include "tests/kernels/sample_cases.h"

namespace tessera::kernels::check {
namespace {

using Case = SampleCase<float>;
const std::vector<float> kLogits = {0.5f, -1.0f, 2.0f, 0.0f, 1.0f, -3.0f};

std::vector<std::int32_t> run(Case& c) {
  sample<float>(Queue{}, c.arguments());
  return c.tokens;
}

std::set<std::int32_t> chosen(double temperature, std::int64_t top_k, double top_p,
                              std::vector<std::uint8_t> allowed = {}) {
  Case c = Case::repeated(kLogits, 4000);
  c.temperature = temperature, c.top_k = top_k, c.top_p = top_p, c.allowed = std::move(allowed);
  const auto tokens = run(c);
  return {tokens.begin(), tokens.end()};
}

TEST(SampleTest, GreedyTakesTheFirstOfTheLargest) {
  Case c = Case::repeated(kLogits, 3);
  EXPECT_EQ(run(c), (std::vector<std::int32_t>{2, 2, 2}));
  const float inf = INFINITY, nan = NAN;
  for (const auto& [logits, expected] :
       std::vector<std::pair<std::vector<float>, int>>{{{1, 3, 3}, 1},
                                                       {{-inf, -inf}, 0},
                                                       {{nan, -5, nan}, 1},
                                                       {{nan, nan, nan}, 0},
                                                       {{1, inf, 2}, 1}}) {
    Case one = Case::repeated(logits, 1);
    EXPECT_EQ(run(one)[0], expected);
  }
}

// 5 degrees of freedom, 99.99 % point 25.7.
TEST(SampleTest, FrequenciesFollowTheSoftmax) {
  for (const double temperature : {0.7, 1.0, 2.0}) {
    Case c = Case::repeated(kLogits, 200000);
    c.temperature = temperature;
    std::vector<std::int64_t> counts(6);
    for (const std::int32_t token : run(c)) ++counts[static_cast<std::size_t>(token)];
    EXPECT_LT(chi_square(counts, softmax(wide(kLogits), temperature)), 25.7) << temperature;
  }
}

TEST(SampleTest, WeightsAreExponentialsInWholeUnits) {
  const double unit = std::ldexp(1.0, kWeightBits);
  for (const double temperature : {0.3, 1.0, 7.0}) {
    const float scale = sample_scale(temperature), most = 3.25f;
    EXPECT_EQ(sample_weight(most, most, scale), std::uint64_t{1} << kWeightBits);
    std::uint64_t last = std::uint64_t{1} << kWeightBits;
    for (float z = most; z > most - 40 * static_cast<float>(temperature); z -= 0.0009765625f) {
      const std::uint64_t w = sample_weight(z, most, scale);
      EXPECT_LE(w, last) << z;  // a smaller logit never weighs more
      last = w;
      const double expected = unit * std::exp((double(z) - most) / temperature);
      // Rounding of the exponent in float32: up to 2^-23 of it.
      const double slack = 2e-7 + 2.5e-7 * (double(most) - z) / temperature;
      EXPECT_NEAR(static_cast<double>(w), expected, 1.0001 + slack * expected) << z;
    }
  }
  EXPECT_EQ(sample_weight(-INFINITY, 0, 1), 0u);
  EXPECT_EQ(sample_weight(-INFINITY, -INFINITY, 1), std::uint64_t{1} << kWeightBits);
  EXPECT_EQ(sample_weight(1, INFINITY, 1), 0u);
  EXPECT_EQ(sample_weight(0.99f, 1, sample_scale(1e-300)), 0u);
}

TEST(SampleTest, TopKAndTopPAndMask) {
  using Ids = std::set<std::int32_t>;
  EXPECT_EQ(chosen(5, 0, 1).size(), 6u);
  EXPECT_EQ(chosen(5, 0, 1, {1, 0, 0, 1, 0, 0}), (Ids{0, 3}));
  EXPECT_EQ(chosen(5, 2, 1), (Ids{2, 4}));
  EXPECT_EQ(chosen(5, 1, 1), (Ids{2}));
  EXPECT_EQ(chosen(1, 0, 0.6), (Ids{2, 4}));  // softmax: 0.54 for 2, 0.20 for 4
  EXPECT_EQ(chosen(1, 0, 0.01), (Ids{2}));
  EXPECT_EQ(chosen(1, 2, 0.99), (Ids{2, 4}));
  // Of equals the smaller ids stay.
  Case c = Case::repeated({1, 2, 2, 2}, 500);
  c.temperature = 1, c.top_k = 2;
  const auto tokens = run(c);
  EXPECT_EQ(Ids(tokens.begin(), tokens.end()), (Ids{1, 2}));
}

TEST(SampleTest, DependsOnSeedPromptAndPositionAlone) {
  Case c = Case::repeated(kLogits, 64);
  c.temperature = 3;
  for (std::size_t r = 0; r < 64; ++r) c.produced[r] = static_cast<std::int32_t>(r % 5);
  const std::vector<std::int32_t> all = run(c);
  for (std::size_t r = 0; r < 64; r += 7) {
    Case one = Case::repeated(kLogits, 1);
    one.temperature = 3;
    one.prompts[0] = static_cast<std::int64_t>(r),
    one.produced[0] = static_cast<std::int32_t>(r % 5);
    EXPECT_EQ(run(one)[0], all[r]);
  }
  Case other = Case::repeated(kLogits, 64);
  other.temperature = 3, other.seed = 2;
  for (std::size_t r = 0; r < 64; ++r) other.produced[r] = static_cast<std::int32_t>(r % 5);
  EXPECT_NE(run(other), all);
}

TEST(SampleTest, KeepsTheBooks) {
  Case c = Case::repeated(kLogits, 5);
  c.limit = 3, c.end_id = 2;
  c.forced = {-1, 4, -1, 2, -1};
  c.produced = {0, 1, 2, 0, 1};
  c.ended = {0, 0, 0, 0, 1};
  Case unended = c;
  EXPECT_EQ(run(c), (std::vector<std::int32_t>{2, 4, 2, 2, 2}));
  EXPECT_EQ(c.produced, (std::vector<std::int32_t>{1, 1, 3, 0, 1}));
  EXPECT_EQ(c.ended, (std::vector<std::uint8_t>{1, 0, 1, 0, 1}));
  EXPECT_EQ(c.positions, (std::vector<std::int32_t>(5, 101)));
  std::vector<std::int32_t> outputs(40, -9);
  outputs[0] = 2, outputs[2 * 8 + 2] = 2;
  EXPECT_EQ(c.outputs, outputs);
  unended.end_id = -1, unended.limit = 8;
  run(unended);
  EXPECT_EQ(unended.ended, (std::vector<std::uint8_t>{0, 0, 0, 0, 1}));
}

}  // namespace
}  // namespace tessera::kernels::check
