// Matrix products and linear layers on the device against the CPU's in double.
#include "kernels/linear.h"

#include "kernels/gemm.h"
#include "tests/kernels/gpu/gpu_check.h"

namespace tessera::kernels::gpu {
namespace {

template <typename T>
class LinearGpu : public GpuTest {};
TYPED_TEST_SUITE(LinearGpu, DeviceTypes);

struct Size {
  std::int64_t rows, in, out, stride;
};
const Size kSizes[] = {{1, 1, 1, 1},         {3, 5, 7, 7},      {17, 13, 31, 31},
                       {64, 64, 64, 64},     {61, 53, 97, 104}, {256, 96, 257, 264},
                       {7, 40, 50257, 50264}};

// Sums of n products of rounded inputs, accumulated in float, then rounded to T.
template <typename T>
double tolerance(std::int64_t n) {
  return 2 * kRounding<T> + 1e-6 * std::sqrt(static_cast<double>(n));
}

TYPED_TEST(LinearGpu, ForwardAndBackwardMatchTheCpu) {
  using T = TypeParam;
  for (const Size& s : kSizes)
    for (const bool bias : {false, true}) {
      const std::string what = std::to_string(s.rows) + " x " + std::to_string(s.in) + " -> " +
                               std::to_string(s.out) + (bias ? " with bias" : "");
      const Values<T> x(s.rows * s.in, 1), w(s.out * s.in, 2), b(s.out, 3), a(s.rows * s.out, 4);
      const Values<T> dy(s.rows * s.stride, 5);
      const Values<float> dw0(s.out * s.in, 6), db0(s.out, 7);
      const DeviceArray<T> dx_(x.typed), dw_(w.typed), db_(b.typed), da_(a.typed), ddy(dy.typed);
      const bool add = s.stride == s.out;

      const DeviceArray<T> y(s.rows * s.stride);
      std::vector<double> expected(static_cast<std::size_t>(s.rows * s.out));
      cpu::linear_forward<double>({s.rows, s.in, s.out, x.as_double.data(), w.as_double.data(),
                                   bias ? b.as_double.data() : nullptr, expected.data(),
                                   add ? a.as_double.data() : nullptr});
      linear_forward<T>(this->queue(),
                        {s.rows, s.in, s.out, dx_.get(), dw_.get(), bias ? db_.get() : nullptr,
                         y.get(), add ? da_.get() : nullptr, s.stride});
      const std::vector<T> strided = y.host();
      std::vector<T> packed;
      for (std::int64_t r = 0; r < s.rows; ++r)
        packed.insert(packed.end(), strided.begin() + r * s.stride,
                      strided.begin() + r * s.stride + s.out);
      EXPECT_LE(relative_error(packed, expected), tolerance<T>(s.in)) << "y of " << what;

      std::vector<double> gx(x.typed.size()), gw = dw0.as_double, gb = db0.as_double;
      cpu::linear_backward<double>({s.rows, s.in, s.out, x.as_double.data(), w.as_double.data(),
                                    dy.as_double.data(), gx.data(), gw.data(), gb.data(),
                                    s.stride});
      const DeviceArray<T> dx(s.rows * s.in);
      const DeviceArray<float> dw(dw0.typed), db(db0.typed);
      linear_backward<T>(this->queue(), {s.rows, s.in, s.out, dx_.get(), dw_.get(), ddy.get(),
                                         dx.get(), dw.get(), bias ? db.get() : nullptr, s.stride});
      EXPECT_LE(relative_error(dx.host(), gx), tolerance<T>(s.out)) << "dx of " << what;
      EXPECT_LE(relative_error(dw.host(), gw), tolerance<float>(s.rows)) << "dw of " << what;
      if (bias) {
        EXPECT_LE(relative_error(db.host(), gb), tolerance<float>(s.rows)) << "db of " << what;
      }
    }
}

TYPED_TEST(LinearGpu, TheResidualMayBeTheOutput) {
  using T = TypeParam;
  const Values<T> x(33 * 48, 1), w(40 * 48, 2), a(33 * 40, 3);
  const DeviceArray<T> dx(x.typed), dw(w.typed), da(a.typed);
  std::vector<double> expected(33 * 40);
  cpu::linear_forward<double>({33, 48, 40, x.as_double.data(), w.as_double.data(), nullptr,
                               expected.data(), a.as_double.data()});
  linear_forward<T>(this->queue(), {33, 48, 40, dx.get(), dw.get(), nullptr, da.get(), da.get()});
  EXPECT_LE(relative_error(da.host(), expected), tolerance<T>(48));
}

TYPED_TEST(LinearGpu, GemmInEveryOrientation) {
  using T = TypeParam;
  const std::int64_t m = 37, n = 53, k = 29;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const Values<T> a(m * k, 1), b(k * n, 2), c(m * n, 3);
      const DeviceArray<T> da(a.typed), db(b.typed), dc(c.typed);
      std::vector<double> expected = c.as_double;
      cpu::gemm<double>({ta, tb, m, n, k, a.as_double.data(), ta ? m : k, b.as_double.data(),
                         tb ? k : n, expected.data(), n, 0.5, 2.0});
      gemm<T>(this->queue(), {ta, tb, m, n, k, da.get(), ta ? m : k, db.get(), tb ? k : n, dc.get(),
                              n, 0.5f, 2.0f});
      EXPECT_LE(relative_error(dc.host(), expected), tolerance<T>(k)) << ta << tb;
    }
}

TYPED_TEST(LinearGpu, ARecordedChoiceGivesTheSameBits) {
  using T = TypeParam;
  const std::int64_t rows = 512, in = 256, out = 384;
  const Values<T> x(rows * in, 1), dy(rows * out, 2), w(out * in, 3);
  const DeviceArray<T> dx(x.typed), ddy(dy.typed), dw(w.typed);
  std::vector<std::vector<float>> weights;
  std::string recorded;
  for (int turn = 0; turn < 2; ++turn) {
    const LibrariesHandle libraries = open_libraries();
    if (turn == 0)
      set_may_measure(*libraries, true);
    else
      algorithms(*libraries) = Algorithms::from_json(recorded, "test");
    Queue queue = this->queue();
    queue.libraries = libraries.get();
    DeviceArray<float> gradient(std::vector<float>(static_cast<std::size_t>(out * in)));
    linear_backward<T>(
        queue, {rows, in, out, dx.get(), dw.get(), ddy.get(), nullptr, gradient.get(), nullptr});
    if (turn == 0) {  // measuring added several times: once more on zeros
      const DeviceArray<float> again(std::vector<float>(static_cast<std::size_t>(out * in)));
      linear_backward<T>(
          queue, {rows, in, out, dx.get(), dw.get(), ddy.get(), nullptr, again.get(), nullptr});
      weights.push_back(again.host());
      recorded = algorithms(*libraries).to_json();
      EXPECT_NE(recorded.find("gemm"), std::string::npos);
    } else {
      weights.push_back(gradient.host());
      EXPECT_EQ(algorithms(*libraries).to_json(), recorded);
    }
  }
  EXPECT_EQ(weights[0], weights[1]);
}

}  // namespace
}  // namespace tessera::kernels::gpu
