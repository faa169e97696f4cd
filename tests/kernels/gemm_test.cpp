// Matrix products of every transposition, stride and degenerate size, and linear layers.
#include "kernels/gemm.h"

#include "kernels/cpu/openblas.h"
#include "kernels/linear.h"
#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class GemmTest : public ::testing::Test {};
TYPED_TEST_SUITE(GemmTest, Types);

struct Size {
  Index m, n, k;
};
const Size kSizes[] = {{1, 1, 1}, {2, 3, 5}, {7, 17, 31}, {31, 1, 17},   {1, 61, 13},   {37, 41, 1},
                       {5, 7, 0}, {0, 3, 4}, {3, 0, 4},   {67, 71, 131}, {129, 65, 300}};

template <typename T>
void check_gemm(const Size& size, bool ta, bool tb, T alpha, T beta) {
  const auto [m, n, k] = size;
  const Index lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 2, ldc = n + 5;
  const std::vector<T> a = normal<T>((ta ? k : m) * lda, "a");
  const std::vector<T> b = normal<T>((tb ? n : k) * ldb, "b");
  std::vector<T> c = normal<T>(m * ldc, "c");
  std::vector<double> expected = wide(c);
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      double sum = 0;
      for (Index l = 0; l < k; ++l)
        sum += static_cast<double>(ta ? a[l * lda + i] : a[i * lda + l]) *
               static_cast<double>(tb ? b[j * ldb + l] : b[l * ldb + j]);
      double& out = expected[static_cast<std::size_t>(i * ldc + j)];
      out = alpha * sum + (beta == 0 ? 0 : beta * out);
    }
  if (beta == 0)  // C must not be read
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) c[i * ldc + j] = static_cast<T>(kNan);
  Gemm<T> g;
  g.transpose_a = ta, g.transpose_b = tb, g.m = m, g.n = n, g.k = k;
  g.a = a.data(), g.lda = lda, g.b = b.data(), g.ldb = ldb, g.c = c.data(), g.ldc = ldc;
  g.alpha = alpha, g.beta = beta;
  gemm(Queue{}, g);
  // Twice for alpha, and half as much again: oneDNN without AVX-512 adds all k terms one by one.
  expect_near(c, expected, 3 * tolerance<T>(k),
              std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k));
}

TYPED_TEST(GemmTest, EverySizeTranspositionAndScale) {
  for (const Size& size : kSizes)
    for (int flags = 0; flags < 4; ++flags) {
      check_gemm<TypeParam>(size, flags & 1, flags & 2, 1, 0);
      check_gemm<TypeParam>(size, flags & 1, flags & 2, TypeParam(-0.5), 1);
      check_gemm<TypeParam>(size, flags & 1, flags & 2, 2, TypeParam(0.25));
    }
}

TYPED_TEST(GemmTest, NanAndInfinityReachTheProduct) {
  using T = TypeParam;
  const Index n = 33;
  for (const double bad : {kNan, kInfinity}) {
    std::vector<T> a(n * n, 1), b(n * n, 1), c(n * n, 0);
    a[5 * n + 7] = static_cast<T>(bad);
    Gemm<T> g;
    g.m = g.n = g.k = g.lda = g.ldb = g.ldc = n;
    g.a = a.data(), g.b = b.data(), g.c = c.data();
    gemm(Queue{}, g);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) EXPECT_EQ(std::isfinite(c[i * n + j]), i != 5);
  }
}

TEST(GemmLibrary, IsNamedWithItsVersion) {
  const std::string name = cpu::gemm_library();
  EXPECT_TRUE(name.find("oneDNN ") == 0 || name.find("OpenBLAS ") == 0 || name == "CBLAS") << name;
  const std::string warning = cpu::gemm_warning();
  EXPECT_TRUE(warning.empty() || name.find("oneDNN") != 0) << warning;
  EXPECT_TRUE(warning.empty() || warning.find("OPENBLAS_CORETYPE=") != std::string::npos)
      << warning;
}

TEST(GemmLibrary, OldOpenblasKernelsAreReportedWithTheCure) {
  using cpu::openblas_warning;
  for (const char* old : {"Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen"}) {
    const std::string text = openblas_warning(old, true, true);
    EXPECT_NE(text.find(old), std::string::npos);
    EXPECT_NE(text.find("OPENBLAS_CORETYPE=SkylakeX"), std::string::npos);
  }
  EXPECT_NE(openblas_warning("Nehalem", false, true).find("OPENBLAS_CORETYPE=Haswell"),
            std::string::npos);
  for (const char* fine : {"SkylakeX", "Cooperlake", "Sapphirerapids", ""})
    EXPECT_EQ(openblas_warning(fine, true, true), "");
  EXPECT_EQ(openblas_warning("Haswell", false, true), "");
  EXPECT_EQ(openblas_warning("Zen", false, true), "");
  EXPECT_EQ(openblas_warning("Nehalem", false, false), "");
}

template <typename T>
class LinearTest : public ::testing::Test {};
TYPED_TEST_SUITE(LinearTest, Types);

TYPED_TEST(LinearTest, ForwardAndBackwardMatchTheEquation) {
  using T = TypeParam;
  for (const auto& [rows, out, in] :
       {Size{1, 1, 1}, Size{3, 5, 7}, Size{17, 31, 13}, Size{0, 5, 3}, Size{61, 97, 53}}) {
    const auto x = normal<T>(rows * in, "x"), weight = normal<T>(out * in, "w");
    const auto bias = normal<T>(out, "b"), dy = normal<T>(rows * out, "dy");
    const auto dw0 = normal<T>(out * in, "dw"), db0 = normal<T>(out, "db");
    std::vector<double> y(rows * out), plain(rows * out), dx(rows * in), dw = wide(dw0);
    std::vector<double> db = wide(db0);
    for (Index r = 0; r < rows; ++r)
      for (Index o = 0; o < out; ++o) {
        const double g = dy[r * out + o];
        for (Index i = 0; i < in; ++i) {
          plain[r * out + o] += double{x[r * in + i]} * double{weight[o * in + i]};
          dx[r * in + i] += g * double{weight[o * in + i]};
          dw[o * in + i] += g * double{x[r * in + i]};
        }
        y[r * out + o] = plain[r * out + o] + double{bias[o]};
        db[o] += g;
      }
    LinearForward<T> f;
    f.rows = rows, f.in = in, f.out = out, f.x = x.data(), f.weight = weight.data();
    std::vector<T> result(rows * out, static_cast<T>(kNan));
    f.y = result.data();
    linear_forward(Queue{}, f);
    expect_near(result, plain, tolerance<T>(in), "y without bias");
    f.bias = bias.data();
    linear_forward(Queue{}, f);
    expect_near(result, y, tolerance<T>(in), "y");
    std::vector<T> stream = normal<T>(rows * out, "add");
    std::vector<double> joined = y;
    for (std::size_t i = 0; i < joined.size(); ++i) joined[i] += double{stream[i]};
    f.add = stream.data();
    linear_forward(Queue{}, f);
    expect_near(result, joined, tolerance<T>(in), "y with a residual");
    f.y = stream.data();
    linear_forward(Queue{}, f);
    expect_near(stream, joined, tolerance<T>(in), "y over its residual");

    LinearBackward<T> b;
    b.rows = rows, b.in = in, b.out = out;
    b.x = x.data(), b.weight = weight.data(), b.dy = dy.data();
    std::vector<T> gx(rows * in, static_cast<T>(kNan)), gw = dw0, gb = db0;
    b.dx = gx.data(), b.dweight = gw.data(), b.dbias = gb.data();
    linear_backward(Queue{}, b);
    expect_near(gx, dx, tolerance<T>(out), "dx");
    expect_near(gw, dw, tolerance<T>(rows), "dw");
    expect_near(gb, db, tolerance<T>(rows), "db");

    b.dx = nullptr, b.dweight = nullptr, b.dbias = nullptr;
    linear_backward(Queue{}, b);  // nothing asked for, nothing done
  }
}

TYPED_TEST(LinearTest, SameBitsTwice) {
  using T = TypeParam;
  const Index rows = 301, in = 67, out = 129;
  const auto x = normal<T>(rows * in, "x"), weight = normal<T>(out * in, "w");
  const auto dy = normal<T>(rows * out, "dy");
  std::vector<T> gw[2], gb[2];
  for (int turn = 0; turn < 2; ++turn) {
    gw[turn].resize(out * in), gb[turn].resize(out);
    LinearBackward<T> b;
    b.rows = rows, b.in = in, b.out = out;
    b.x = x.data(), b.weight = weight.data(), b.dy = dy.data();
    b.dweight = gw[turn].data(), b.dbias = gb[turn].data();
    linear_backward(Queue{}, b);
  }
  expect_same_bits(gw[0], gw[1], "dw");
  expect_same_bits(gb[0], gb[1], "db");
}

TYPED_TEST(LinearTest, BiasGradientDoesNotDependOnThreads) {
  using T = TypeParam;
  const Index rows = 301, out = 129;
  const auto dy = normal<T>(rows * out, "dy");
  std::vector<T> gb[2];
  for (int turn = 0; turn < 2; ++turn) {
    const Threads threads(turn + 1);
    gb[turn].resize(out);
    LinearBackward<T> b;
    b.rows = rows, b.in = 1, b.out = out, b.dy = dy.data(), b.dbias = gb[turn].data();
    linear_backward(Queue{}, b);
  }
  expect_same_bits(gb[0], gb[1], "db");
}

}  // namespace
}  // namespace tessera::kernels::check
