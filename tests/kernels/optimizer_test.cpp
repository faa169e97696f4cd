// AdamW and squared norms.
#include "kernels/adamw.h"
#include "kernels/squared_norms.h"
#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class OptimizerTest : public ::testing::Test {};
TYPED_TEST_SUITE(OptimizerTest, Types);

constexpr double kRate = 3e-3, kDecay = 0.1, kScale = 0.7;

// One update of count elements cut into slices at `cuts`, with the constants above.
template <typename T>
void update(std::vector<T>& p, std::vector<T>& m, std::vector<T>& v, const std::vector<T>& g,
            std::int64_t step, const std::vector<Index>& cuts = {}, T* working = nullptr) {
  std::vector<TensorSlice> slices;
  Index begin = 0;
  std::vector<Index> ends = cuts;
  ends.push_back(static_cast<Index>(p.size()));
  for (const Index end : ends) {
    slices.push_back({begin, end - begin, 0, static_cast<float>(kDecay)});
    begin = end;
  }
  AdamW<T> a;
  const AdamWStep scalars = adamw_step(kRate, kScale, a.beta1, a.beta2, step);
  a.slices = slices.data(), a.slice_count = static_cast<Index>(slices.size());
  a.step = &scalars;
  a.parameter = p.data(), a.m = m.data(), a.v = v.data(), a.gradient = g.data();
  a.working = working;
  adamw(Queue{}, a);
}

TYPED_TEST(OptimizerTest, AdamWMatchesTheEquationOverSteps) {
  using T = TypeParam;
  const double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  const double decay = static_cast<double>(static_cast<float>(kDecay));
  for (const Index count : {0, 1, 2, 3, 5, 7, 17, 31, 1009, 20011}) {
    auto p = normal<T>(count, "p");
    std::vector<T> m(count), v(count);
    auto pe = wide(p), me = wide(m), ve = wide(v);
    for (int step = 1; step <= 3; ++step) {
      const auto g = normal<T>(count, step == 1 ? "g1" : step == 2 ? "g2" : "g3");
      update(p, m, v, g, step);
      for (std::size_t i = 0; i < pe.size(); ++i) {
        const double gs = kScale * double{g[i]};
        pe[i] -= kRate * decay * pe[i];
        me[i] = beta1 * me[i] + (1 - beta1) * gs;
        ve[i] = beta2 * ve[i] + (1 - beta2) * gs * gs;
        pe[i] -= kRate * (me[i] / (1 - std::pow(beta1, step))) /
                 (std::sqrt(ve[i] / (1 - std::pow(beta2, step))) + eps);
      }
    }
    expect_near(p, pe, tolerance<T>(), "p");
    expect_near(m, me, tolerance<T>(), "m");
    expect_near(v, ve, tolerance<T>(), "v");
  }
}

TYPED_TEST(OptimizerTest, AdamWInSlicesIsAdamW) {
  using T = TypeParam;
  const Index count = 1009;
  const auto g = normal<T>(count, "g");
  auto p = normal<T>(count, "p"), m = normal<T>(count, "m"), v = std::vector<T>(count, T(0.5));
  auto p2 = p, m2 = m, v2 = v;
  std::vector<T> working(count, static_cast<T>(kNan));
  update(p, m, v, g, 4);
  update(p2, m2, v2, g, 4, {333, 333, 640}, working.data());
  expect_same_bits(p, p2, "p");
  expect_same_bits(m, m2, "m");
  expect_same_bits(v, v2, "v");
  expect_same_bits(p, working, "working copy");
}

TYPED_TEST(OptimizerTest, AdamWKeepsNan) {
  using T = TypeParam;
  std::vector<T> p(40), m(40), v(40), g(40, T{1});
  g[33] = static_cast<T>(kNan);
  update(p, m, v, g, 1);
  for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(p[i]), i == 33);
}

template <typename T>
double squared_norm(const T* x, Index count) {
  const TensorSlice slice{0, count, 1, 0};
  double sums[3] = {kNan, kNan, kNan};
  squared_norms(Queue{}, SquaredNorms<T>{&slice, 1, x, nullptr, sums, 3});
  EXPECT_EQ(sums[0], 0);
  EXPECT_EQ(sums[2], 0);
  return sums[1];
}

TYPED_TEST(OptimizerTest, SquaredNormsAddTheSlicesOfATensor) {
  using T = TypeParam;
  const auto x = normal<T>(3000, "x");
  const std::vector<TensorSlice> slices = {{0, 1000, 0, 0}, {1000, 500, 1, 0}, {1600, 1400, 1, 0}};
  double sums[2];
  squared_norms(Queue{}, SquaredNorms<T>{slices.data(), 3, x.data(), nullptr, sums, 2});
  EXPECT_EQ(sums[0], squared_norm(x.data(), 1000));
  EXPECT_EQ(sums[1], squared_norm(x.data() + 1000, 500) + squared_norm(x.data() + 1600, 1400));
}

TYPED_TEST(OptimizerTest, SquaredNormIsTheSumForAnyThreadCountAndAlignment) {
  using T = TypeParam;
  for (const Index count : {0, 1, 2, 3, 5, 7, 17, 31, 4096, 4097, 100003, 5000011}) {
    if (count > 1000000 && std::is_same_v<T, double>) continue;
    const auto x = normal<T>(count + 1, "x");
    double expected = 0;
    for (Index i = 0; i < count; ++i) expected += double{x[i]} * double{x[i]};
    const double one = [&] {
      const Threads threads(1);
      return squared_norm(x.data(), count);
    }();
    EXPECT_NEAR(one, expected, 1e-12 * expected);
    for (const int n : {2, 3, 4}) {
      const Threads threads(n);
      EXPECT_EQ(squared_norm(x.data(), count), one) << count << " on " << n;
    }
    std::vector<T> shifted(x.size() + 1);
    std::copy(x.begin(), x.end(), shifted.begin() + 1);
    EXPECT_EQ(squared_norm(shifted.data() + 1, count), one);
  }
}

TYPED_TEST(OptimizerTest, SquaredNormShowsNanAndInfinity) {
  using T = TypeParam;
  for (const Index at : {Index{0}, Index{5000}, Index{10006}})
    for (const double bad : {kNan, kInfinity, -kInfinity}) {
      std::vector<T> x(10007, T{1});
      x[at] = static_cast<T>(bad);
      EXPECT_FALSE(std::isfinite(squared_norm(x.data(), 10007)));
    }
}

TEST(SquaredNorm, FloatsDoNotOverflow) {
  const std::vector<float> x(100, 1e30f);
  EXPECT_NEAR(squared_norm(x.data(), 100) / 1e62, 1, 1e-6);
}

}  // namespace
}  // namespace tessera::kernels::check
