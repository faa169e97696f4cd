// Softmax cross entropy and its gradient in place.
#include "kernels/cross_entropy.h"

#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class CrossEntropyTest : public ::testing::Test {};
TYPED_TEST_SUITE(CrossEntropyTest, Types);

template <typename T>
CrossEntropy<T> args(Index rows, Index vocab, std::vector<T>& logits,
                     const std::vector<std::int32_t>& targets, std::vector<T>& losses,
                     const T& weight, bool gradient) {
  CrossEntropy<T> a;
  a.rows = rows, a.vocab = vocab, a.logits = logits.data(), a.targets = targets.data();
  a.losses = losses.data(), a.weight = &weight, a.gradient = gradient;
  return a;
}

TYPED_TEST(CrossEntropyTest, LossAndGradientMatchTheEquation) {
  using T = TypeParam;
  const T weight = static_cast<T>(0.3);
  for (const auto& [rows, vocab] : {std::pair<Index, Index>{1, 1},
                                    {2, 3},
                                    {5, 17},
                                    {31, 7},
                                    {17, 257},
                                    {3, 1031},
                                    {2, 50304},
                                    {0, 5},
                                    {70, 300}}) {
    const auto logits = normal<T>(rows * vocab, "z", 4);
    auto targets = integers(rows, vocab, "targets");
    if (rows > 1) targets[1] = -1;
    std::vector<double> loss(rows), dz(rows * vocab);
    for (Index r = 0; r < rows; ++r) {
      if (targets[r] < 0) continue;
      double most = -kInfinity, sum = 0;
      for (Index v = 0; v < vocab; ++v) most = std::max(most, double{logits[r * vocab + v]});
      for (Index v = 0; v < vocab; ++v) sum += std::exp(double{logits[r * vocab + v]} - most);
      loss[r] = most + std::log(sum) - double{logits[r * vocab + targets[r]]};
      for (Index v = 0; v < vocab; ++v)
        dz[r * vocab + v] = double{weight} * (std::exp(double{logits[r * vocab + v]} - most) / sum -
                                              (v == targets[r] ? 1 : 0));
    }
    std::vector<T> z = logits, losses(rows, static_cast<T>(kNan));
    cross_entropy(Queue{}, args(rows, vocab, z, targets, losses, weight, false));
    expect_same_bits(z, logits, "logits without gradient");
    expect_near(losses, loss, 4 * tolerance<T>(), "losses without gradient");
    losses.assign(losses.size(), static_cast<T>(kNan));
    cross_entropy(Queue{}, args(rows, vocab, z, targets, losses, weight, true));
    expect_near(losses, loss, 4 * tolerance<T>(), "losses");
    expect_near(z, dz, tolerance<T>(), "dz");
  }
}

TEST(CrossEntropy, FiniteDifferences) {
  const Index rows = 4, vocab = 13;
  auto z = normal<double>(rows * vocab, "z", 2);
  const std::vector<std::int32_t> targets = {3, -1, 0, 12};
  std::vector<double> losses(rows), dz = z;
  const double weight = 0.5;
  cross_entropy(Queue{}, args(rows, vocab, dz, targets, losses, weight, true));
  const auto loss = [&] {
    cross_entropy(Queue{}, args(rows, vocab, z, targets, losses, weight, false));
    return 0.5 * (losses[0] + losses[1] + losses[2] + losses[3]);
  };
  expect_gradient(loss, z, dz, "dz");
}

TYPED_TEST(CrossEntropyTest, TargetsInGroupsAndRowsWithAStride) {
  using T = TypeParam;
  const Index rows = 7, vocab = 11, stride = 16;
  const T weight = 1;
  const auto all = integers(60, vocab, "targets");
  auto z = normal<T>(rows * stride, "z"), packed = std::vector<T>(rows * vocab);
  const auto before = z;
  std::vector<std::int32_t> picked(rows);
  CrossEntropy<T> a;
  a.rows = rows, a.vocab = vocab, a.logits = z.data(), a.stride = stride;
  a.targets = all.data() + 2, a.first_row = 4, a.group_rows = 5, a.group_stride = 20;
  std::vector<T> losses(rows), expected(rows);
  a.losses = losses.data(), a.weight = &weight;
  for (Index r = 0; r < rows; ++r) {
    picked[r] = all[2 + (r + 4) / 5 * 20 + (r + 4) % 5];
    std::copy_n(z.begin() + r * stride, vocab, packed.begin() + r * vocab);
  }
  cross_entropy(Queue{}, a);
  cross_entropy(Queue{}, args<T>(rows, vocab, packed, picked, expected, weight, true));
  expect_same_bits(losses, expected, "losses");
  for (Index r = 0; r < rows; ++r)
    for (Index v = 0; v < stride; ++v)
      EXPECT_EQ(z[r * stride + v], v < vocab ? packed[r * vocab + v] : before[r * stride + v]);
}

TYPED_TEST(CrossEntropyTest, LargeLogitsDoNotOverflow) {
  using T = TypeParam;
  std::vector<T> z(300, -1e30f), losses(1);
  z[77] = static_cast<T>(1e30), z[78] = static_cast<T>(-kInfinity);
  const std::vector<std::int32_t> targets = {77};
  cross_entropy(Queue{}, args<T>(1, 300, z, targets, losses, T{1}, true));
  EXPECT_EQ(losses[0], 0);
  for (const T value : z) EXPECT_EQ(value, 0);
}

TYPED_TEST(CrossEntropyTest, NanAndInfinityAreNotHidden) {
  using T = TypeParam;
  for (const double bad : {kNan, kInfinity})
    for (const Index at : {Index{0}, Index{131}, Index{256}}) {
      auto z = normal<T>(257, "z");
      z[at] = static_cast<T>(bad);
      std::vector<T> losses(1);
      const std::vector<std::int32_t> targets = {5};
      cross_entropy(Queue{}, args<T>(1, 257, z, targets, losses, T{1}, true));
      EXPECT_FALSE(std::isfinite(losses[0]));
      EXPECT_FALSE(std::isfinite(z[at]));
    }
}

TEST(CrossEntropy, ATargetOutsideTheVocabularyIsAnInternalError) {
  std::vector<float> z(6), losses(2);
  const std::vector<std::int32_t> targets = {1, 3};
  EXPECT_THROW(cross_entropy(Queue{}, args<float>(2, 3, z, targets, losses, 1.0f, true)), Error);
}

TYPED_TEST(CrossEntropyTest, SameBitsForAnyThreadCount) {
  using T = TypeParam;
  std::vector<T> z[2], losses[2];
  const auto targets = integers(61, 1031, "targets");
  for (int turn = 0; turn < 2; ++turn) {
    const Threads threads(turn + 1);
    z[turn] = normal<T>(61 * 1031, "z"), losses[turn].resize(61);
    cross_entropy(Queue{}, args<T>(61, 1031, z[turn], targets, losses[turn], T{1}, true));
  }
  expect_same_bits(z[0], z[1], "dz");
  expect_same_bits(losses[0], losses[1], "losses");
}

}  // namespace
}  // namespace tessera::kernels::check
