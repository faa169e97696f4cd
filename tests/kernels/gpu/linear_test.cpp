// Matrix products and linear layers on the device against the CPU's in double.
#include "kernels/linear.h"

#include "core/error.h"
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

// The first `columns` of every row.
template <typename T>
std::vector<T> pack(const std::vector<T>& strided, std::int64_t rows, std::int64_t columns,
                    std::int64_t stride) {
  std::vector<T> packed;
  for (std::int64_t r = 0; r < rows; ++r)
    packed.insert(packed.end(), strided.begin() + r * stride,
                  strided.begin() + r * stride + columns);
  return packed;
}

TYPED_TEST(LinearGpu, ForwardMatchesTheCpu) {
  using T = TypeParam;
  for (const Size& s : kSizes)
    for (const bool bias : {false, true})
      for (const bool add : {false, true}) {
        const std::string what = std::to_string(s.rows) + " x " + std::to_string(s.in) + " -> " +
                                 std::to_string(s.out) + (bias ? " bias" : "") +
                                 (add ? " add" : "");
        const Values<T> x(s.rows * s.in, 1), w(s.out * s.in, 2), b(s.out, 3), a(s.rows * s.out, 4);
        const DeviceArray<T> dx(x.typed), dw(w.typed), db(b.typed), da(a.typed);
        const DeviceArray<T> y(s.rows * s.stride);
        std::vector<double> expected(static_cast<std::size_t>(s.rows * s.out));
        cpu::linear_forward<double>({s.rows, s.in, s.out, x.as_double.data(), w.as_double.data(),
                                     bias ? b.as_double.data() : nullptr, expected.data(),
                                     add ? a.as_double.data() : nullptr});
        linear_forward<T>(this->queue(),
                          {s.rows, s.in, s.out, dx.get(), dw.get(), bias ? db.get() : nullptr,
                           y.get(), add ? da.get() : nullptr, s.stride});
        const std::vector<T> strided = y.host();
        EXPECT_LE(relative_error(pack(strided, s.rows, s.out, s.stride), expected),
                  tolerance<T>(s.in))
            << what;
        // Between the rows nothing is written: the NaN that the array was filled with stay.
        for (std::int64_t r = 0; r < s.rows; ++r)
          for (std::int64_t j = s.out; j < s.stride; ++j)
            ASSERT_TRUE(std::isnan(to_float(strided[static_cast<std::size_t>(r * s.stride + j)])))
                << what << " row " << r;
      }
}

TYPED_TEST(LinearGpu, BackwardMatchesTheCpu) {
  using T = TypeParam;
  for (const Size& s : kSizes)
    for (const bool bias : {false, true}) {
      const std::string what = std::to_string(s.rows) + " x " + std::to_string(s.in) + " -> " +
                               std::to_string(s.out) + (bias ? " bias" : "");
      const Values<T> x(s.rows * s.in, 1), w(s.out * s.in, 2), dy(s.rows * s.stride, 5);
      const Values<float> dw0(s.out * s.in, 6), db0(s.out, 7);
      const DeviceArray<T> dx_(x.typed), dw_(w.typed), ddy(dy.typed);
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

// Sizes that fit the fast kernels, with one array at a time that does not start on 16 bytes.
TYPED_TEST(LinearGpu, AnyArrayMayBeUnaligned) {
  using T = TypeParam;
  const std::int64_t rows = 64, in = 128, out = 192;
  const auto shifted = [](const Values<T>& values, int by) {
    std::vector<T> padded(static_cast<std::size_t>(by));
    padded.insert(padded.end(), values.typed.begin(), values.typed.end());
    return padded;
  };
  const Values<T> x(rows * in, 1), w(out * in, 2), b(out, 3), a(rows * out, 4);
  std::vector<double> expected(static_cast<std::size_t>(rows * out));
  cpu::linear_forward<double>({rows, in, out, x.as_double.data(), w.as_double.data(),
                               b.as_double.data(), expected.data(), a.as_double.data()});
  for (int which = 0; which < 6; ++which) {
    const auto by = [&](int array) { return which == array ? 1 : 0; };
    const DeviceArray<T> dx(shifted(x, by(1))), dw(shifted(w, by(2))), db(shifted(b, by(3)));
    const DeviceArray<T> da(shifted(a, by(4))), y(rows * out + by(5));
    linear_forward<T>(this->queue(), {rows, in, out, dx.get() + by(1), dw.get() + by(2),
                                      db.get() + by(3), y.get() + by(5), da.get() + by(4)});
    std::vector<T> got = y.host();
    got.erase(got.begin(), got.begin() + by(5));
    EXPECT_LE(relative_error(got, expected), tolerance<T>(in)) << "array " << which;
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

// Everything that a layer with a residual stream and a bias computes, on the device.
template <typename T>
struct LayerRun {
  static constexpr std::int64_t kRows = 512, kIn = 256, kOut = 384;
  Values<T> x{kRows * kIn, 1}, w{kOut * kIn, 2}, b{kOut, 3}, a{kRows * kOut, 4},
      dy{kRows * kOut, 5};
  DeviceArray<T> dx_{x.typed}, dw_{w.typed}, db_{b.typed}, da_{a.typed}, ddy{dy.typed};
  DeviceArray<T> y{kRows * kOut}, dx{kRows * kIn};
  DeviceArray<float> dw{kOut * kIn}, db{kOut};

  void run(const Queue& queue) const {
    linear_forward<T>(queue,
                      {kRows, kIn, kOut, dx_.get(), dw_.get(), db_.get(), y.get(), da_.get()});
    linear_backward<T>(
        queue, {kRows, kIn, kOut, dx_.get(), dw_.get(), ddy.get(), dx.get(), dw.get(), db.get()});
  }
  // Gradients from zero, outputs from NaN.
  void clear(const Queue& queue) const {
    const auto stream = static_cast<cudaStream_t>(queue.stream);
    EXPECT_EQ(cudaMemsetAsync(y.get(), 0xff, kRows * kOut * sizeof(T), stream), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(dx.get(), 0xff, kRows * kIn * sizeof(T), stream), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(dw.get(), 0, kOut * kIn * sizeof(float), stream), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(db.get(), 0, kOut * sizeof(float), stream), cudaSuccess);
  }
  // All results; float holds bf16 exactly.
  std::vector<float> results() const {
    std::vector<float> all;
    for (const T& value : y.host()) all.push_back(to_float(value));
    for (const T& value : dx.host()) all.push_back(to_float(value));
    for (const float value : dw.host()) all.push_back(value);
    for (const float value : db.host()) all.push_back(value);
    return all;
  }
  std::vector<float> once(const Queue& queue) const {
    clear(queue);
    run(queue);
    return results();
  }
};

TYPED_TEST(LinearGpu, SameBitsEveryTimeAndInGraphs) {
  const LayerRun<TypeParam> layer;
  const Queue queue = this->queue();
  const std::vector<float> first = layer.once(queue);
  EXPECT_EQ(layer.once(queue), first);

  const auto stream = static_cast<cudaStream_t>(queue.stream);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  layer.run(queue);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&ready, graph, 0), cudaSuccess);
  for (int turn = 0; turn < 2; ++turn) {
    layer.clear(queue);
    ASSERT_EQ(cudaGraphLaunch(ready, stream), cudaSuccess);
    EXPECT_EQ(layer.results(), first) << "replay " << turn;
  }
  EXPECT_EQ(cudaGraphExecDestroy(ready), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TYPED_TEST(LinearGpu, ARecordedChoiceGivesTheSameBits) {
  const LayerRun<TypeParam> layer;
  Queue queue = this->queue();
  const LibrariesHandle measuring = open_libraries();
  queue.libraries = measuring.get();
  set_may_measure(*measuring, true);
  layer.run(queue);
  set_may_measure(*measuring, false);
  const std::vector<float> measured = layer.once(queue);
  const std::string record = algorithms(*measuring).to_json();
  EXPECT_NE(record.find("gemm"), std::string::npos);

  for (const bool may_measure : {false, true}) {  // what is recorded is not measured again
    const LibrariesHandle resumed = open_libraries();
    algorithms(*resumed) = Algorithms::from_json(record, "test");
    set_may_measure(*resumed, may_measure);
    queue.libraries = resumed.get();
    EXPECT_EQ(layer.once(queue), measured);
    EXPECT_EQ(algorithms(*resumed).to_json(), record);
  }
}

TYPED_TEST(LinearGpu, RefusesARecordThatIsNoAlgorithm) {
  const LayerRun<TypeParam> layer;
  Queue queue = this->queue();
  layer.run(queue);
  std::string record = algorithms(*queue.libraries).to_json();
  const std::string field = "\"value\": \"";
  for (std::size_t at = record.find(field); at != std::string::npos;
       at = record.find(field, at + 1))
    record.insert(at + field.size(), "x");
  const LibrariesHandle broken = open_libraries();
  algorithms(*broken) = Algorithms::from_json(record, "test");
  queue.libraries = broken.get();
  try {
    layer.run(queue);
    FAIL() << "took " << record;
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::data);
    EXPECT_NE(std::string(error.what()).find("gemm"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tessera::kernels::gpu
