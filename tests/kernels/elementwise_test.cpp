// GELU, strided copies, transposition, and the vector functions beneath them.
#include "kernels/copy_rows.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/gelu.h"
#include "kernels/transpose.h"
#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class ElementwiseTest : public ::testing::Test {};
TYPED_TEST_SUITE(ElementwiseTest, Types);

const Index kCounts[] = {0, 1, 2, 3, 5, 7, 17, 31, 64, 127, 20011};

double phi(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}

TYPED_TEST(ElementwiseTest, GeluForwardAndBackward) {
  using T = TypeParam;
  for (const Index count : kCounts) {
    const auto x = normal<T>(count, "x", 2.5), dy = normal<T>(count, "dy");
    std::vector<T> y(count), dx(count), shared = dy;
    std::vector<double> y_expected, dx_expected;
    for (Index i = 0; i < count; ++i) {
      const double v = x[i];
      y_expected.push_back(v * phi(v));
      dx_expected.push_back(double{dy[i]} *
                            (phi(v) + v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI)));
    }
    gelu_forward(Queue{}, GeluForward<T>{count, x.data(), y.data()});
    gelu_backward(Queue{}, GeluBackward<T>{1, count, x.data(), dy.data(), dx.data()});
    gelu_backward(Queue{}, GeluBackward<T>{1, count, x.data(), shared.data(), shared.data()});
    expect_near(y, y_expected, tolerance<T>(), "y");
    expect_near(dx, dx_expected, tolerance<T>(), "dx");
    expect_same_bits(dx, shared, "dx in place");
  }
}

TYPED_TEST(ElementwiseTest, GeluBackwardSumsTheBiasGradient) {
  using T = TypeParam;
  const Index rows = 37, width = 29;
  const auto x = normal<T>(rows * width, "x", 2), dy = normal<T>(rows * width, "dy");
  auto dbias = normal<T>(width, "db");
  std::vector<double> expected = wide(dbias);
  std::vector<T> dx(x.size());
  gelu_backward(Queue{},
                GeluBackward<T>{rows, width, x.data(), dy.data(), dx.data(), dbias.data()});
  for (Index i = 0; i < rows * width; ++i) expected[i % width] += double{dx[i]};
  expect_near(dbias, expected, tolerance<T>(rows), "dbias");
}

TEST(Gelu, FloatIsWithinOneTenMillionthEverywhere) {
  const Index count = 280001;
  std::vector<float> x(count), y(count);
  for (Index i = 0; i < count; ++i) x[i] = static_cast<float>(-14 + 28.0 * double(i) / (count - 1));
  gelu_forward(Queue{}, GeluForward<float>{count, x.data(), y.data()});
  for (Index i = 0; i < count; ++i) {
    const double v = x[i];
    ASSERT_NEAR(y[i], v * phi(v), 1.2e-7 * std::max(1.0, std::abs(v))) << v;
  }
}

TEST(Gelu, FiniteDifferences) {
  auto x = normal<double>(37, "x", 2);
  const auto dy = normal<double>(37, "dy");
  std::vector<double> y(37), dx(37);
  gelu_backward(Queue{}, GeluBackward<double>{1, 37, x.data(), dy.data(), dx.data()});
  const auto loss = [&] {
    gelu_forward(Queue{}, GeluForward<double>{37, x.data(), y.data()});
    return weighted(y, dy);
  };
  expect_gradient(loss, x, dx, "dx");
}

TYPED_TEST(ElementwiseTest, GeluKeepsNanAndInfinity) {
  using T = TypeParam;
  const std::vector<T> x = {static_cast<T>(kNan), static_cast<T>(kInfinity), 1};
  std::vector<T> y(3), dx(3), dy = {1, 1, static_cast<T>(kNan)};
  gelu_forward(Queue{}, GeluForward<T>{3, x.data(), y.data()});
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], static_cast<T>(kInfinity));
  gelu_backward(Queue{}, GeluBackward<T>{1, 3, x.data(), dy.data(), dx.data()});
  EXPECT_TRUE(std::isnan(dx[0]));
  EXPECT_TRUE(std::isnan(dx[2]));
}

float exp_of(float x) {
  return cpu::exp(cpu::broadcast(x))[0];
}

TEST(VectorMath, ExpIsWithinTwoUlpAndKeepsItsLimits) {
  for (double v = -87.3; v < 88.7; v += 0.00137) {
    const float x = static_cast<float>(v);
    const double expected = std::exp(static_cast<double>(x));
    ASSERT_NEAR(exp_of(x), expected, expected * 2.4e-7) << x;
  }
  EXPECT_EQ(exp_of(0.0f), 1.0f);
  EXPECT_EQ(exp_of(-88.0f), 0.0f);
  EXPECT_EQ(exp_of(-1e30f), 0.0f);
  EXPECT_EQ(exp_of(static_cast<float>(-kInfinity)), 0.0f);
  EXPECT_EQ(exp_of(static_cast<float>(kInfinity)), static_cast<float>(kInfinity));
  EXPECT_EQ(exp_of(89.0f), static_cast<float>(kInfinity));
  EXPECT_EQ(exp_of(1e30f), static_cast<float>(kInfinity));
  EXPECT_TRUE(std::isnan(exp_of(static_cast<float>(kNan))));
}

TEST(VectorMath, LaneOperationsAndPartialLoads) {
  using namespace cpu;
  float x[kLanes<float> + 1];
  for (Index i = 0; i <= kLanes<float>; ++i) x[i] = static_cast<float>(i + 1);
  const Vec<float> all = load(x), some = load(x, Partial{2});
  EXPECT_EQ(sum_lanes(all), static_cast<float>(kLanes<float> * (kLanes<float> + 1) / 2));
  EXPECT_EQ(max_lanes(all), static_cast<float>(kLanes<float>));
  EXPECT_EQ(sum_lanes(some), 3.0f);
  store(x, all * 2.0f, Partial{1});
  EXPECT_EQ(x[0], 2.0f);
  EXPECT_EQ(x[1], 2.0f);
  EXPECT_EQ(x[2], 3.0f);
}

TYPED_TEST(ElementwiseTest, CopyRowsBetweenStridedLayouts) {
  using T = TypeParam;
  for (const auto& [groups, runs, width] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                            {5, 2, 17},
                                            {3, 1, 31},
                                            {0, 2, 3},
                                            {7, 0, 5},
                                            {200, 2, 64}})
    for (const Index batches : {1, 3}) {
      const Index from_group = runs * width + 3, to_group = runs * width + 7;
      const Index from_batch = groups * from_group + 5, to_batch = groups * to_group + 1;
      const auto from = normal<T>(batches * from_batch, "from");
      std::vector<T> to = normal<T>(batches * to_batch, "to"), expected = to;
      for (Index b = 0; b < batches; ++b)
        for (Index r = 0; r < groups * runs; ++r)
          for (Index j = 0; j < width; ++j)
            expected[b * to_batch + r / runs * to_group + r % runs * width + j] =
                from[b * from_batch + r / runs * from_group + r % runs * width + j];
      copy_rows(Queue{}, CopyRows<T>{groups, runs, width, from.data(), from_group, to.data(),
                                     to_group, batches, from_batch, to_batch});
      expect_same_bits(to, expected, "to");
    }
}

TYPED_TEST(ElementwiseTest, TransposeTurnsEveryMatrix) {
  using T = TypeParam;
  for (const auto& [matrices, rows, columns] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                                {0, 4, 9},
                                                {3, 1, 17},
                                                {5, 3, 7},
                                                {2, 33, 65},
                                                {300, 4, 96}}) {
    const auto from = normal<T>(matrices * rows * columns, "from");
    std::vector<T> to(from.size()), back(from.size()), expected(from.size());
    for (Index m = 0; m < matrices; ++m)
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < columns; ++c)
          expected[(m * columns + c) * rows + r] = from[(m * rows + r) * columns + c];
    transpose(Queue{}, Transpose<T>{matrices, rows, columns, from.data(), to.data()});
    expect_same_bits(to, expected, "to");
    transpose(Queue{}, Transpose<T>{matrices, columns, rows, to.data(), back.data()});
    expect_same_bits(back, from, "back");
  }
}

}  // namespace
}  // namespace tessera::kernels::check
