// GELU, cross entropy, strided copies, transposition and sums on the device against the CPU's in
// double.
#include "kernels/copy_rows.h"
#include "kernels/cross_entropy.h"
#include "kernels/gelu.h"
#include "kernels/sum.h"
#include "kernels/transpose.h"
#include "tests/kernels/gpu/gpu_check.h"

namespace tessera::kernels::gpu {
namespace {

template <typename T>
class ElementwiseGpu : public GpuTest {};
TYPED_TEST_SUITE(ElementwiseGpu, DeviceTypes);

TYPED_TEST(ElementwiseGpu, GeluMatchesTheCpuAndSumsItsBias) {
  using T = TypeParam;
  for (const auto& [rows, width] : {std::pair<std::int64_t, std::int64_t>{1, 1},
                                    {7, 13},
                                    {31, 64},
                                    {1000, 96},
                                    {257, 3072},
                                    {40, 1001}})
    for (const bool bias : {false, true}) {
      const std::int64_t count = rows * width;
      const std::string what = std::to_string(rows) + " x " + std::to_string(width);
      const Values<T> x(count, 1, 2), dy(count, 2);
      const Values<float> b0(width, 3);
      const DeviceArray<T> dx_(x.typed), ddy(dy.typed), y(count), dx(count);
      const DeviceArray<float> db(b0.typed);
      std::vector<double> ey(count), edx(count), edb = b0.as_double;
      cpu::gelu_forward<double>({count, x.as_double.data(), ey.data()});
      cpu::gelu_backward<double>({rows, width, x.as_double.data(), dy.as_double.data(), edx.data(),
                                  bias ? edb.data() : nullptr});
      gelu_forward<T>(this->queue(), {count, dx_.get(), y.get()});
      gelu_backward<T>(this->queue(),
                       {rows, width, dx_.get(), ddy.get(), dx.get(), bias ? db.get() : nullptr});
      expect_close(y.host(), ey, kRounding<T> + 1e-6, 0.05, "y " + what);
      expect_close(dx.host(), edx, kRounding<T> + 5e-6, 0.05, "dx " + what);
      expect_close(db.host(), edb, 4e-6, std::sqrt(static_cast<double>(rows)) + 1, "db " + what);
      gelu_backward<T>(this->queue(), {rows, width, dx_.get(), ddy.get(), ddy.get(), nullptr});
      EXPECT_EQ(widen(ddy.host()), widen(dx.host())) << "in place";
    }
}

TYPED_TEST(ElementwiseGpu, CrossEntropyMatchesTheCpu) {
  using T = TypeParam;
  for (const auto& [rows, vocab, stride] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>{1, 1, 1},
        {5, 17, 17},
        {31, 7, 16},
        {17, 257, 264},
        {3, 1031, 1031},
        {4, 50304, 50304},
        {3, 50257, 50264},
        {2, 130001, 130008}}) {
    const std::string what = std::to_string(rows) + " x " + std::to_string(vocab);
    const Values<T> z(rows * stride, 1, 3);
    std::vector<std::int32_t> targets;
    for (std::int64_t r = 0; r < 3 * rows; ++r)
      targets.push_back(r % 4 == 1 ? -1 : static_cast<std::int32_t>((r * 7919 + 5) % vocab));
    const DeviceArray<std::int32_t> dtargets(targets);
    const float weight = 0.25f;
    const double wide_weight = 0.25;
    const DeviceArray<float> dweight(std::vector<float>{weight}), losses(rows);
    for (const bool gradient : {false, true}) {
      CrossEntropy<double> e;
      std::vector<double> ez = z.as_double, eloss(rows);
      e.rows = rows, e.vocab = vocab, e.stride = stride, e.logits = ez.data();
      e.targets = targets.data() + 1, e.first_row = 1, e.group_rows = 2, e.group_stride = 3;
      e.losses = eloss.data(), e.weight = &wide_weight, e.gradient = gradient;
      cpu::cross_entropy(e);
      const DeviceArray<T> dz(z.typed);
      CrossEntropy<T> a;
      a.rows = rows, a.vocab = vocab, a.stride = stride, a.logits = dz.get();
      a.targets = dtargets.get() + 1, a.first_row = 1, a.group_rows = 2, a.group_stride = 3;
      a.losses = losses.get(), a.weight = dweight.get(), a.gradient = gradient;
      cross_entropy(this->queue(), a);
      expect_close(losses.host(), eloss, 4e-6, 1, "losses " + what);
      // Probabilities are at most the weight; tiny ones are rounded relative to themselves.
      expect_close(dz.host(), ez, kRounding<T> + 1e-4, gradient ? 1e-6 : 1, "logits " + what);
    }
  }
}

TYPED_TEST(ElementwiseGpu, CrossEntropyShowsNanAndInfinity) {
  using T = TypeParam;
  for (const double bad : {std::nan(""), double(INFINITY)})
    for (const std::size_t at : {std::size_t{0}, std::size_t{131}, std::size_t{256}}) {
      Values<T> z(264, 1);
      z.typed[at] = from_double<T>(bad);
      const DeviceArray<T> dz(z.typed);
      const DeviceArray<float> loss(1), weight(std::vector<float>{1.0f});
      const DeviceArray<std::int32_t> target(std::vector<std::int32_t>{5});
      CrossEntropy<T> a;
      a.rows = 1, a.vocab = 257, a.stride = 264, a.logits = dz.get(), a.targets = target.get();
      a.losses = loss.get(), a.weight = weight.get();
      cross_entropy(this->queue(), a);
      EXPECT_FALSE(std::isfinite(loss.host()[0]));
    }
}

TYPED_TEST(ElementwiseGpu, CopyRowsBetweenLayouts) {
  using T = TypeParam;
  for (const auto& [groups, runs, width, extra] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>{1, 1, 1, 3},
        {5, 2, 17, 1},
        {200, 2, 64, 8},
        {7, 4, 24, 16}})
    for (const std::int64_t batches : {1, 3}) {
      const std::int64_t fg = runs * width + extra, tg = runs * width + 2 * extra;
      const std::int64_t fb = groups * fg + extra, tb = groups * tg + extra;
      const Values<T> from(batches * fb, 1), to(batches * tb, 2);
      const DeviceArray<T> dfrom(from.typed), dto(to.typed);
      std::vector<double> expected = to.as_double;
      cpu::copy_rows<double>(
          {groups, runs, width, from.as_double.data(), fg, expected.data(), tg, batches, fb, tb});
      copy_rows<T>(this->queue(),
                   {groups, runs, width, dfrom.get(), fg, dto.get(), tg, batches, fb, tb});
      EXPECT_EQ(widen(dto.host()), expected);
    }
}

TYPED_TEST(ElementwiseGpu, TransposeTurnsEveryMatrix) {
  using T = TypeParam;
  for (const auto& [matrices, rows, columns] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>{1, 1, 1},
        {3, 1, 17},
        {5, 4, 768},
        {700, 3, 257},
        {2, 33, 301},
        {9000, 2, 24}})
    for (const bool back : {false, true}) {
      const std::int64_t r = back ? columns : rows, c = back ? rows : columns;
      const Values<T> from(matrices * r * c, 1);
      const DeviceArray<T> dfrom(from.typed), dto(matrices * r * c);
      std::vector<double> expected(from.as_double.size());
      cpu::transpose<double>({matrices, r, c, from.as_double.data(), expected.data()});
      transpose<T>(this->queue(), {matrices, r, c, dfrom.get(), dto.get()});
      EXPECT_EQ(widen(dto.host()), expected) << matrices << " x " << r << " x " << c;
    }
}

using SumGpu = GpuTest;
TEST_F(SumGpu, AddsInDouble) {
  for (const std::int64_t count : {1, 7, 1024, 100003}) {
    const Values<float> x(count, 1);
    const DeviceArray<float> dx(x.typed);
    const DeviceArray<double> sum(std::vector<double>{2.5});
    kernels::sum<float>(queue(), {count, dx.get(), sum.get()});
    double expected = 2.5, size = 0;
    for (const double v : x.as_double) expected += v, size += std::abs(v);
    double found = 0;
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    ASSERT_EQ(cudaMemcpy(&found, sum.get(), sizeof found, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_NEAR(found, expected, 1e-13 * size);
  }
}

}  // namespace
}  // namespace tessera::kernels::gpu
