// AdamW and the squared norm.
#include "kernels/adamw.h"
#include "kernels/squared_norm.h"
#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class OptimizerTest : public ::testing::Test {};
TYPED_TEST_SUITE(OptimizerTest, Types);

template <typename T>
AdamW<T> args(std::vector<T>& p, std::vector<T>& m, std::vector<T>& v, const std::vector<T>& g) {
  AdamW<T> a;
  a.count = static_cast<Index>(p.size());
  a.parameter = p.data(), a.m = m.data(), a.v = v.data(), a.gradient = g.data();
  a.lr = 3e-3, a.weight_decay = 0.1, a.scale = 0.7;
  return a;
}

TYPED_TEST(OptimizerTest, AdamWMatchesTheEquationOverSteps) {
  using T = TypeParam;
  for (const Index count : {0, 1, 2, 3, 5, 7, 17, 31, 1009, 20011}) {
    auto p = normal<T>(count, "p");
    std::vector<T> m(count), v(count);
    auto pe = wide(p), me = wide(m), ve = wide(v);
    for (int step = 1; step <= 3; ++step) {
      const auto g = normal<T>(count, step == 1 ? "g1" : step == 2 ? "g2" : "g3");
      AdamW<T> a = args(p, m, v, g);
      a.step = step;
      adamw(Queue{}, a);
      for (std::size_t i = 0; i < pe.size(); ++i) {
        const double gs = a.scale * double{g[i]};
        pe[i] -= a.lr * a.weight_decay * pe[i];
        me[i] = a.beta1 * me[i] + (1 - a.beta1) * gs;
        ve[i] = a.beta2 * ve[i] + (1 - a.beta2) * gs * gs;
        pe[i] -= a.lr * (me[i] / (1 - std::pow(a.beta1, step))) /
                 (std::sqrt(ve[i] / (1 - std::pow(a.beta2, step))) + a.eps);
      }
    }
    expect_near(p, pe, tolerance<T>(), "p");
    expect_near(m, me, tolerance<T>(), "m");
    expect_near(v, ve, tolerance<T>(), "v");
  }
}

TYPED_TEST(OptimizerTest, AdamWOfASliceIsTheSliceOfAdamW) {
  using T = TypeParam;
  const Index count = 1009, cut = 333;
  const auto g = normal<T>(count, "g");
  auto p = normal<T>(count, "p"), m = normal<T>(count, "m"), v = std::vector<T>(count, T(0.5));
  auto p2 = p, m2 = m, v2 = v;
  AdamW<T> whole = args(p, m, v, g), part = args(p2, m2, v2, g);
  adamw(Queue{}, whole);
  part.count = cut;
  adamw(Queue{}, part);
  part.parameter += cut, part.m += cut, part.v += cut, part.gradient += cut;
  part.count = count - cut;
  adamw(Queue{}, part);
  expect_same_bits(p, p2, "p");
  expect_same_bits(m, m2, "m");
  expect_same_bits(v, v2, "v");
}

TYPED_TEST(OptimizerTest, AdamWKeepsNan) {
  using T = TypeParam;
  std::vector<T> p(40), m(40), v(40), g(40, T{1});
  g[33] = static_cast<T>(kNan);
  adamw(Queue{}, args(p, m, v, g));
  for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(p[i]), i == 33);
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
      return squared_norm(Queue{}, x.data(), count);
    }();
    EXPECT_NEAR(one, expected, 1e-12 * expected);
    for (const int n : {2, 3, 4}) {
      const Threads threads(n);
      EXPECT_EQ(squared_norm(Queue{}, x.data(), count), one) << count << " on " << n;
    }
    std::vector<T> shifted(x.size() + 1);
    std::copy(x.begin(), x.end(), shifted.begin() + 1);
    EXPECT_EQ(squared_norm(Queue{}, shifted.data() + 1, count), one);
  }
}

TYPED_TEST(OptimizerTest, SquaredNormShowsNanAndInfinity) {
  using T = TypeParam;
  for (const Index at : {Index{0}, Index{5000}, Index{10006}})
    for (const double bad : {kNan, kInfinity, -kInfinity}) {
      std::vector<T> x(10007, T{1});
      x[at] = static_cast<T>(bad);
      EXPECT_FALSE(std::isfinite(squared_norm(Queue{}, x.data(), 10007)));
    }
}

TEST(SquaredNorm, FloatsDoNotOverflow) {
  const std::vector<float> x(100, 1e30f);
  EXPECT_NEAR(squared_norm(Queue{}, x.data(), 100) / 1e62, 1, 1e-6);
}

}  // namespace
}  // namespace tessera::kernels::check
