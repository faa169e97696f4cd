// Layer normalisation with one and two outputs, with and without a residual gradient.
#include "kernels/layer_norm.h"

#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class LayerNormTest : public ::testing::Test {};
TYPED_TEST_SUITE(LayerNormTest, Types);

constexpr double kEps = 1e-5;
const Index kShapes[][2] = {{1, 1},  {2, 3},   {5, 17},   {31, 7}, {3, 64},
                            {7, 65}, {3, 257}, {61, 131}, {0, 5},  {200, 96}};

template <typename T>
struct Case {
  Index rows, width;
  bool two;
  std::vector<T> x, gain1, bias1, gain2, bias2, y1, y2, mean, rstd;

  Case(Index r, Index w, bool both)
      : rows(r),
        width(w),
        two(both),
        x(normal<T>(r * w, "x", 3)),
        gain1(normal<T>(w, "g1")),
        bias1(normal<T>(w, "b1")),
        gain2(normal<T>(w, "g2")),
        bias2(normal<T>(w, "b2")),
        y1(r * w),
        y2(r * w),
        mean(r),
        rstd(r) {
    for (T& value : x) value += T{2};
  }

  void forward() {
    LayerNormForward<T> f;
    f.rows = rows, f.width = width, f.eps = kEps, f.x = x.data();
    f.gain1 = gain1.data(), f.bias1 = bias1.data(), f.y1 = y1.data();
    if (two) f.gain2 = gain2.data(), f.bias2 = bias2.data(), f.y2 = y2.data();
    f.mean = mean.data(), f.rstd = rstd.data();
    layer_norm_forward(Queue{}, f);
  }
};

template <typename T>
struct Gradients {
  std::vector<T> dx, dgain1, dbias1, dgain2, dbias2;
};

template <typename T>
Gradients<T> backward(const Case<T>& c, const std::vector<T>& dy1, const std::vector<T>& dy2,
                      const std::vector<T>& dresidual, double start) {
  const auto from = [&](const char* name) { return normal<T>(c.width, name, start); };
  Gradients<T> g{std::vector<T>(c.x.size(), static_cast<T>(kNan)), from("dg1"), from("db1"),
                 from("dg2"), from("db2")};
  LayerNormBackward<T> b;
  b.rows = c.rows, b.width = c.width, b.x = c.x.data();
  b.mean = c.mean.data(), b.rstd = c.rstd.data(), b.gain1 = c.gain1.data(), b.dy1 = dy1.data();
  b.dgain1 = g.dgain1.data(), b.dbias1 = g.dbias1.data();
  if (c.two) {
    b.gain2 = c.gain2.data(), b.dy2 = dy2.data();
    b.dgain2 = g.dgain2.data(), b.dbias2 = g.dbias2.data();
  }
  b.dresidual = dresidual.empty() ? nullptr : dresidual.data();
  b.dx = g.dx.data();
  layer_norm_backward(Queue{}, b);
  return g;
}

TYPED_TEST(LayerNormTest, ForwardMatchesTheEquation) {
  using T = TypeParam;
  for (const auto& [rows, width] : kShapes)
    for (const bool two : {false, true}) {
      Case<T> c(rows, width, two);
      c.forward();
      std::vector<double> y1, y2, mean, rstd;
      for (Index r = 0; r < rows; ++r) {
        double m = 0, v = 0;
        for (Index j = 0; j < width; ++j) m += double{c.x[r * width + j]} / double(width);
        for (Index j = 0; j < width; ++j)
          v += (double{c.x[r * width + j]} - m) * (double{c.x[r * width + j]} - m) / double(width);
        mean.push_back(m);
        rstd.push_back(1 / std::sqrt(v + kEps));
        for (Index j = 0; j < width; ++j) {
          const double xhat = (double{c.x[r * width + j]} - m) * rstd.back();
          y1.push_back(xhat * double{c.gain1[j]} + double{c.bias1[j]});
          y2.push_back(xhat * double{c.gain2[j]} + double{c.bias2[j]});
        }
      }
      const double limit = (width == 1 ? 1 : 4) * tolerance<T>(4);
      expect_near(c.y1, y1, limit, "y1");
      if (two) expect_near(c.y2, y2, limit, "y2");
      expect_near(c.mean, mean, limit, "mean");
      expect_near(c.rstd, rstd, limit, "rstd");
    }
}

TYPED_TEST(LayerNormTest, BackwardMatchesTheEquationAndAddsToParameterGradients) {
  using T = TypeParam;
  for (const auto& [rows, width] : kShapes)
    for (const bool two : {false, true})
      for (const bool residual : {false, true}) {
        if (width == 1) continue;  // rstd = 1 / sqrt(eps): differences of rounding only
        Case<T> c(rows, width, two);
        c.forward();
        const auto dy1 = normal<T>(rows * width, "dy1"), dy2 = normal<T>(rows * width, "dy2");
        const auto dres = normal<T>(residual ? rows * width : 0, "dres");
        const Gradients<T> g = backward(c, dy1, dy2, dres, 1);
        std::vector<double> dx(rows * width);
        auto dg1 = wide(normal<T>(width, "dg1")), db1 = wide(normal<T>(width, "db1"));
        auto dg2 = wide(normal<T>(width, "dg2")), db2 = wide(normal<T>(width, "db2"));
        for (Index r = 0; r < rows; ++r) {
          std::vector<double> d(width), xhat(width);
          double sum = 0, product = 0;
          for (Index j = 0; j < width; ++j) {
            const double g1 = dy1[r * width + j], g2 = two ? dy2[r * width + j] : T{0};
            xhat[j] = (double{c.x[r * width + j]} - double{c.mean[r]}) * double{c.rstd[r]};
            d[j] = g1 * double{c.gain1[j]} + g2 * double{c.gain2[j]};
            sum += d[j] / double(width);
            product += d[j] * xhat[j] / double(width);
            dg1[j] += g1 * xhat[j], db1[j] += g1;
            if (two) dg2[j] += g2 * xhat[j], db2[j] += g2;
          }
          for (Index j = 0; j < width; ++j)
            dx[r * width + j] = double{c.rstd[r]} * (d[j] - sum - xhat[j] * product) +
                                (residual ? double{dres[r * width + j]} : 0);
        }
        expect_near(g.dx, dx, 2 * tolerance<T>(width), "dx");
        expect_near(g.dgain1, dg1, 2 * tolerance<T>(rows), "dgain1");
        expect_near(g.dbias1, db1, 2 * tolerance<T>(rows), "dbias1");
        expect_near(g.dgain2, dg2, 2 * tolerance<T>(rows), "dgain2");
        expect_near(g.dbias2, db2, 2 * tolerance<T>(rows), "dbias2");
      }
}

TEST(LayerNorm, FiniteDifferences) {
  Case<double> c(5, 19, true);
  const auto dy1 = normal<double>(5 * 19, "dy1"), dy2 = normal<double>(5 * 19, "dy2");
  c.forward();
  const Gradients<double> g = backward(c, dy1, dy2, {}, 0);
  const auto loss = [&] {
    c.forward();
    return weighted(c.y1, dy1) + weighted(c.y2, dy2);
  };
  expect_gradient(loss, c.x, g.dx, "dx");
  expect_gradient(loss, c.gain1, g.dgain1, "dgain1");
  expect_gradient(loss, c.bias1, g.dbias1, "dbias1");
  expect_gradient(loss, c.gain2, g.dgain2, "dgain2");
  expect_gradient(loss, c.bias2, g.dbias2, "dbias2");
}

TYPED_TEST(LayerNormTest, DxMayBeTheResidualGradient) {
  using T = TypeParam;
  Case<T> c(7, 65, false);
  c.forward();
  const auto dy = normal<T>(7 * 65, "dy1");
  auto shared = normal<T>(7 * 65, "dres");
  const Gradients<T> apart = backward(c, dy, {}, shared, 0);
  std::vector<T> dgain(65), dbias(65);
  LayerNormBackward<T> b;
  b.rows = 7, b.width = 65, b.x = c.x.data(), b.mean = c.mean.data(), b.rstd = c.rstd.data();
  b.gain1 = c.gain1.data(), b.dy1 = dy.data(), b.dgain1 = dgain.data(), b.dbias1 = dbias.data();
  b.dresidual = b.dx = shared.data();
  layer_norm_backward(Queue{}, b);
  expect_same_bits(shared, apart.dx, "dx");
}

TYPED_TEST(LayerNormTest, TheOneOutputMayBeTheInput) {
  using T = TypeParam;
  Case<T> c(7, 65, false);
  c.forward();
  std::vector<T> shared = c.x;
  LayerNormForward<T> f;
  f.rows = 7, f.width = 65, f.eps = kEps, f.x = shared.data(), f.y1 = shared.data();
  f.gain1 = c.gain1.data(), f.bias1 = c.bias1.data();
  layer_norm_forward(Queue{}, f);
  expect_same_bits(shared, c.y1, "y1");
}

TYPED_TEST(LayerNormTest, SameBitsTwiceAndNanStaysInItsRow) {
  using T = TypeParam;
  Case<T> c(301, 67, true);
  c.forward();
  const auto dy1 = normal<T>(301 * 67, "dy1"), dy2 = normal<T>(301 * 67, "dy2");
  const Gradients<T> first = backward(c, dy1, dy2, {}, 0), again = backward(c, dy1, dy2, {}, 0);
  expect_same_bits(first.dx, again.dx, "dx");
  expect_same_bits(first.dgain1, again.dgain1, "dgain1");
  expect_same_bits(first.dbias2, again.dbias2, "dbias2");
  c.x[100 * 67 + 66] = static_cast<T>(kNan);
  c.forward();
  for (Index i = 0; i < 301 * 67; ++i) {
    EXPECT_EQ(std::isnan(c.y1[i]), i / 67 == 100);
    EXPECT_EQ(std::isnan(c.y2[i]), i / 67 == 100);
  }
}

}  // namespace
}  // namespace tessera::kernels::check
