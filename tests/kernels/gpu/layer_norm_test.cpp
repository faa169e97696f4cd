// Layer norm on the device against the CPU's in double: widths with and without vectors, one and
// two outputs, residual gradients, sums added to what is there.
#include "kernels/layer_norm.h"

#include "tests/kernels/gpu/gpu_check.h"

namespace tessera::kernels::gpu {
namespace {

template <typename T>
class LayerNormGpu : public GpuTest {};
TYPED_TEST_SUITE(LayerNormGpu, DeviceTypes);

struct Size {
  std::int64_t rows, width;
};
const Size kSizes[] = {{1, 8},    {3, 7},     {17, 31},  {5, 64},    {1031, 48}, {600, 512},
                       {70, 768}, {33, 1024}, {9, 2048}, {13, 4096}, {5, 8192},  {3, 1001}};

template <typename T>
struct Case {
  Size s;
  bool two, residual;
  Values<T> x, gain1, bias1, gain2, bias2, dy1, dy2, dres;
  DeviceArray<T> x_, gain1_, bias1_, gain2_, bias2_, dy1_, dy2_, dres_;
  Case(Size size, bool with_two, bool with_residual)
      : s(size),
        two(with_two),
        residual(with_residual),
        x(s.rows * s.width, 1, 1.5, 0.3),
        gain1(s.width, 2, 0.3, 1),
        bias1(s.width, 3),
        gain2(s.width, 4, 0.3, 1),
        bias2(s.width, 5),
        dy1(s.rows * s.width, 6),
        dy2(s.rows * s.width, 7),
        dres(s.rows * s.width, 8),
        x_(x.typed),
        gain1_(gain1.typed),
        bias1_(bias1.typed),
        gain2_(gain2.typed),
        bias2_(bias2.typed),
        dy1_(dy1.typed),
        dy2_(dy2.typed),
        dres_(dres.typed) {}
};

TYPED_TEST(LayerNormGpu, ForwardAndBackwardMatchTheCpu) {
  using T = TypeParam;
  for (const Size& size : kSizes)
    for (const bool two : {false, true})
      for (const bool residual : {false, true}) {
        const Case<T> c(size, two, residual);
        const std::int64_t rows = size.rows, width = size.width, count = rows * width;
        const std::string what = std::to_string(rows) + " x " + std::to_string(width) +
                                 (two ? " two" : "") + (residual ? " residual" : "");
        std::vector<double> y1(count), y2(count), mean(rows), rstd(rows);
        cpu::layer_norm_forward<double>({rows, width, 1e-5, c.x.as_double.data(),
                                         c.gain1.as_double.data(), c.bias1.as_double.data(),
                                         y1.data(), two ? c.gain2.as_double.data() : nullptr,
                                         two ? c.bias2.as_double.data() : nullptr,
                                         two ? y2.data() : nullptr, mean.data(), rstd.data()});
        const DeviceArray<T> dy1(count), dy2(count);
        const DeviceArray<float> dmean(rows), drstd(rows);
        layer_norm_forward<T>(
            this->queue(),
            {rows, width, 1e-5, c.x_.get(), c.gain1_.get(), c.bias1_.get(), dy1.get(),
             two ? c.gain2_.get() : nullptr, two ? c.bias2_.get() : nullptr,
             two ? dy2.get() : nullptr, dmean.get(), drstd.get()});
        expect_close(dy1.host(), y1, 2 * kRounding<T> + 2e-6, 1, "y1 " + what);
        if (two) expect_close(dy2.host(), y2, 2 * kRounding<T> + 2e-6, 1, "y2 " + what);
        expect_close(dmean.host(), mean, 2e-6, 1, "mean " + what);
        expect_close(drstd.host(), rstd, 2e-6, 1, "rstd " + what);

        const Values<float> g0(width, 21);
        std::vector<double> dx(count), dg1 = g0.as_double, db1 = dg1, dg2 = dg1, db2 = dg1;
        std::vector<double> ds1 = dg1, ds2 = dg1;
        cpu::layer_norm_backward<double>(
            {rows, width, c.x.as_double.data(), mean.data(), rstd.data(), c.gain1.as_double.data(),
             c.dy1.as_double.data(), dg1.data(), db1.data(),
             two ? c.gain2.as_double.data() : nullptr, two ? c.dy2.as_double.data() : nullptr,
             dg2.data(), db2.data(), residual ? c.dres.as_double.data() : nullptr, dx.data(),
             residual ? ds1.data() : nullptr, residual ? ds2.data() : nullptr});
        const DeviceArray<T> ddx(count);
        const DeviceArray<float> a1(g0.typed), a2(g0.typed), a3(g0.typed), a4(g0.typed),
            a5(g0.typed), a6(g0.typed);
        layer_norm_backward<T>(
            this->queue(),
            {rows, width, c.x_.get(), dmean.get(), drstd.get(), c.gain1_.get(), c.dy1_.get(),
             a1.get(), a2.get(), two ? c.gain2_.get() : nullptr, two ? c.dy2_.get() : nullptr,
             two ? a3.get() : nullptr, two ? a4.get() : nullptr, residual ? c.dres_.get() : nullptr,
             ddx.get(), residual ? a5.get() : nullptr, residual ? a6.get() : nullptr});
        expect_close(ddx.host(), dx, 2 * kRounding<T> + 1e-5, 2, "dx " + what);
        const double scale = std::sqrt(static_cast<double>(rows)) + 1;
        expect_close(a1.host(), dg1, 5e-6, scale, "dgain1 " + what);
        expect_close(a2.host(), db1, 5e-6, scale, "dbias1 " + what);
        if (two) expect_close(a3.host(), dg2, 5e-6, scale, "dgain2 " + what);
        if (two) expect_close(a4.host(), db2, 5e-6, scale, "dbias2 " + what);
        if (residual) expect_close(a5.host(), ds1, 5e-6, scale, "dsum1 " + what);
        if (residual) expect_close(a6.host(), ds2, 5e-6, scale, "dsum2 " + what);
      }
}

TYPED_TEST(LayerNormGpu, SameBitsTwiceAndOverTheResidual) {
  using T = TypeParam;
  const Case<T> c({999, 768}, true, true);
  std::vector<std::vector<double>> results;
  for (int turn = 0; turn < 3; ++turn) {
    const DeviceArray<float> mean(999), rstd(999), g(std::vector<float>(768)),
        h(std::vector<float>(768));
    const DeviceArray<T> y1(999 * 768), y2(999 * 768), other(999 * 768), over(c.dres.typed);
    const DeviceArray<T>& dx = turn == 2 ? over : other;
    layer_norm_forward<T>(this->queue(),
                          {999, 768, 1e-5, c.x_.get(), c.gain1_.get(), c.bias1_.get(), y1.get(),
                           c.gain2_.get(), c.bias2_.get(), y2.get(), mean.get(), rstd.get()});
    layer_norm_backward<T>(
        this->queue(), {999, 768, c.x_.get(), mean.get(), rstd.get(), c.gain1_.get(), c.dy1_.get(),
                        g.get(), g.get(), c.gain2_.get(), c.dy2_.get(), h.get(), h.get(),
                        turn == 2 ? dx.get() : c.dres_.get(), dx.get(), nullptr, nullptr});
    results.push_back(widen(dx.host()));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

}  // namespace
}  // namespace tessera::kernels::gpu
