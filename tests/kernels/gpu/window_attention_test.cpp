// Window attention on the device, forward and backward, against the CPU's in double: native kernels
// and cuDNN in every combination, measured choices, repeated forwards, graphs, equal bits.
#include "kernels/window_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/libraries.h"
#include "kernels/rotary.h"
#include "tests/kernels/gpu/gpu_check.h"

namespace tessera::kernels::gpu {
namespace {

struct Case {
  std::int64_t windows, length, heads, head_size, rotary;

  std::int64_t rows() const { return windows * length; }
  std::int64_t out_count() const { return rows() * heads * head_size; }
  std::int64_t qkv_count() const { return 3 * out_count(); }
  std::string describe() const {
    return "windows " + std::to_string(windows) + " length " + std::to_string(length) + " heads " +
           std::to_string(heads) + " size " + std::to_string(head_size) + " rotary " +
           std::to_string(rotary);
  }
};

// cuDNN takes half a second to compile a shape: lengths in steps of 128 are few.
const std::vector<Case> kCases = {
    {3, 1, 3, 64, 16},    {7, 5, 12, 64, 16},   {2, 64, 3, 48, 12},    {3, 65, 5, 64, 16},
    {2, 127, 3, 32, 32},  {2, 128, 3, 16, 4},   {3, 128, 5, 64, 16},   {2, 129, 1, 96, 0},
    {1, 128, 2, 256, 64}, {2, 200, 3, 128, 32}, {1, 512, 3, 128, 128}, {1, 1000, 3, 64, 16},
    {1, 300, 1, 256, 64}, {65, 66, 1, 64, 64},  {1, 1024, 1, 80, 20},
};

// The native kernels' head sizes; cuDNN's, and what its versions up to 9.15 take in the backward.
bool native_takes(const Case& c) {
  constexpr std::array<std::int64_t, 7> kSizes = {16, 32, 48, 64, 96, 128, 256};
  return std::find(kSizes.begin(), kSizes.end(), c.head_size) != kSizes.end();
}
bool cudnn_takes(const Case& c) {
  return c.head_size <= 128 && c.length % 128 == 0;
}

// Random arguments of one case, in T and double, and the CPU's results.
template <typename T>
struct Problem {
  explicit Problem(const Case& c, bool with_reference = true)
      : shape(c), qkv(c.qkv_count(), 1), dout(c.out_count(), 2) {
    const auto angles = static_cast<std::size_t>(c.length * c.rotary / 2);
    cos.resize(angles);
    sin.resize(angles);
    rotary_tables<float>(c.length, c.rotary, 10000, cos.data(), sin.data());
    if (with_reference) compute();
  }

  void compute() {
    const std::vector<double> wide_cos(cos.begin(), cos.end()), wide_sin(sin.begin(), sin.end());
    out.resize(dout.typed.size());
    lse.resize(static_cast<std::size_t>(shape.rows() * shape.heads));
    dqkv.resize(qkv.typed.size());
    std::vector<double> rotated = qkv.as_double;
    const WindowAttentionShape<double> s{
        shape.windows, shape.length,    shape.heads,     shape.head_size,
        shape.rotary,  wide_cos.data(), wide_sin.data(), AttentionKernel::automatic};
    cpu::window_attention_forward<double>({s, rotated.data(), out.data(), lse.data(), false});
    cpu::window_attention_backward<double>(
        {s, rotated.data(), out.data(), lse.data(), dout.as_double.data(), dqkv.data()});
  }

  Case shape;
  Values<T> qkv, dout;
  std::vector<float> cos, sin;
  std::vector<double> out, lse, dqkv;
};

// ||actual - expected|| over the elements first, first + 1, ... of every `period`.
template <typename T>
double distance(const std::vector<T>& actual, const std::vector<double>& expected,
                std::size_t first, std::size_t count, std::size_t period) {
  double sum = 0;
  for (std::size_t row = first; row < expected.size(); row += period)
    for (std::size_t i = row; i < row + count; ++i) {
      const double error = static_cast<double>(to_float(actual[i])) - expected[i];
      sum += error * error;
    }
  return std::sqrt(sum);
}

double norm(const std::vector<double>& values, std::size_t first, std::size_t count,
            std::size_t period) {
  return distance(std::vector<float>(values.size()), values, first, count, period);
}

template <typename T>
std::vector<double> as_double(const std::vector<T>& values) {
  std::vector<double> wide;
  for (const T value : values) wide.push_back(static_cast<double>(to_float(value)));
  return wide;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

class WindowAttentionGpu : public GpuTest {
 protected:
  static void TearDownTestSuite() { libraries_.reset(); }
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    if (!libraries_) libraries_ = open_libraries();
    algorithms(*libraries_) = Algorithms();
    set_may_measure(*libraries_, false);
  }
  static LibrariesHandle libraries_;  // with cuDNN's plans, for all tests
};
LibrariesHandle WindowAttentionGpu::libraries_;

// The arguments on the device and the operation's runs on them.
template <typename T>
struct OnDevice {
  OnDevice(const Queue& base, cuda::Libraries* libraries, const Problem<T>& p)
      : problem(p),
        qkv(p.qkv.typed),
        dout(p.dout.typed),
        cos(p.cos),
        sin(p.sin),
        out(p.shape.out_count()),
        dqkv(p.shape.qkv_count()),
        lse(p.shape.rows() * p.shape.heads),
        dbias(std::vector<float>(static_cast<std::size_t>(3 * p.shape.heads * p.shape.head_size),
                                 0.5f)),
        queue(base) {
    queue.libraries = libraries;
    cudaDeviceSynchronize();  // the arrays' fills run on another stream
  }

  WindowAttentionShape<T> shape(AttentionKernel choice) const {
    const Case& c = problem.shape;
    return {c.windows, c.length, c.heads, c.head_size, c.rotary, cos.get(), sin.get(), choice};
  }
  void need(AttentionKernel choice) {
    const std::int64_t bytes = window_attention_workspace<T>(queue, shape(choice));
    if (bytes <= queue.workspace_bytes) return;
    workspace.emplace(bytes);
    queue.workspace = workspace->get();
    queue.workspace_bytes = bytes;
    cudaDeviceSynchronize();
  }
  void forward(AttentionKernel choice, bool again = false) {
    window_attention_forward<T>(queue, {shape(choice), qkv.get(), out.get(), lse.get(), again});
  }
  void backward(AttentionKernel choice) {
    window_attention_backward<T>(queue, {shape(choice), qkv.get(), out.get(), lse.get(), dout.get(),
                                         dqkv.get(), dbias.get()});
  }
  // Each of q, k and v apart; a part that all but vanishes is held to the size of the whole.
  void expect_gradient(const std::vector<double>& expected, double tolerance,
                       const std::string& what) const {
    const auto d = static_cast<std::size_t>(problem.shape.head_size);
    const std::vector<T> actual = dqkv.host();
    const double whole = norm(expected, 0, 3 * d, 3 * d);
    for (std::size_t part = 0; part < 3; ++part)
      EXPECT_LE(distance(actual, expected, part * d, d, 3 * d),
                tolerance * std::max(norm(expected, part * d, d, 3 * d), 0.1 * whole))
          << what << ", gradient of "
          << "qkv"[part];
  }
  // After one backward: what was there and the sums of dqkv's rows, whose independent errors add up
  // to those of the whole.
  void expect_bias(const std::vector<double>& dqkv_expected, double tolerance,
                   const std::string& what) const {
    std::vector<double> sums(static_cast<std::size_t>(dbias.count()), 0.5);
    for (std::size_t i = 0; i < dqkv_expected.size(); ++i)
      sums[i % sums.size()] += dqkv_expected[i];
    EXPECT_LE(distance(dbias.host(), sums, 0, 1, 1), 2 * tolerance * norm(dqkv_expected, 0, 1, 1))
        << what << ", dbias";
  }
  void expect_output(const std::vector<double>& expected, double tolerance,
                     const std::string& what) const {
    EXPECT_LE(distance(out.host(), expected, 0, 1, 1), tolerance * norm(expected, 0, 1, 1))
        << what << ", out";
  }

  const Problem<T>& problem;
  DeviceArray<T> qkv, dout;
  DeviceArray<float> cos, sin;
  DeviceArray<T> out, dqkv;
  DeviceArray<float> lse, dbias;
  Queue queue;
  std::optional<DeviceArray<std::byte>> workspace;
};

// bf16: q and k are rounded once more when rotated, p and ds before their products.
template <typename T>
constexpr double kOutTolerance = std::is_same_v<T, bf16> ? 2 * kRounding<T> : 64 * kRounding<T>;
template <typename T>
constexpr double kGradientTolerance =
    std::is_same_v<T, bf16> ? 4 * kRounding<T> : 256 * kRounding<T>;

template <typename T>
void expect_correct(const Queue& queue, cuda::Libraries* libraries, const Problem<T>& problem,
                    AttentionKernel forward, AttentionKernel backward) {
  const std::string what = problem.shape.describe() + " kernels " +
                           std::to_string(static_cast<int>(forward)) +
                           std::to_string(static_cast<int>(backward));
  OnDevice<T> device(queue, libraries, problem);
  device.need(forward);
  device.need(backward);
  device.forward(forward);
  device.backward(backward);
  device.expect_output(problem.out, kOutTolerance<T>, what);
  expect_close(device.lse.host(), problem.lse, 4 * kOutTolerance<T>, 1.0, what + ", lse");
  device.expect_gradient(problem.dqkv, kGradientTolerance<T>, what);
  // Measuring runs the backward, and so adds, several times.
  if (backward != AttentionKernel::automatic)
    device.expect_bias(problem.dqkv, kGradientTolerance<T>, what);
}

TEST_F(WindowAttentionGpu, FloatMatchesTheCpu) {
  for (const Case& c : kCases)
    if (native_takes(c))
      expect_correct<float>(queue(), libraries_.get(), Problem<float>(c),
                            AttentionKernel::automatic, AttentionKernel::automatic);
}

TEST_F(WindowAttentionGpu, Bf16MatchesTheCpuWithEveryPairOfKernels) {
  for (const Case& c : kCases) {
    const Problem<bf16> problem(c);
    std::vector<AttentionKernel> kernels;
    if (native_takes(c)) kernels.push_back(AttentionKernel::native);
    if (cudnn_takes(c)) kernels.push_back(AttentionKernel::cudnn);
    for (const AttentionKernel forward : kernels)
      for (const AttentionKernel backward : kernels)
        expect_correct<bf16>(queue(), libraries_.get(), problem, forward, backward);
  }
}

TEST_F(WindowAttentionGpu, CudnnForwardTakesEveryLength) {
  for (const std::int64_t length : {65, 1000}) {
    const Problem<bf16> problem({2, length, 3, 64, 16});
    OnDevice<bf16> device(queue(), libraries_.get(), problem);
    device.forward(AttentionKernel::cudnn);
    device.expect_output(problem.out, kOutTolerance<bf16>, problem.shape.describe());
    device.backward(AttentionKernel::native);
    device.expect_gradient(problem.dqkv, kGradientTolerance<bf16>, problem.shape.describe());
  }
}

TEST_F(WindowAttentionGpu, MeasuredChoicesAreKept) {
  set_may_measure(*libraries_, true);
  for (const Case& c : {Case{3, 128, 5, 64, 16}, Case{1, 128, 2, 256, 64}, Case{2, 65, 3, 64, 16}})
    expect_correct<bf16>(queue(), libraries_.get(), Problem<bf16>(c), AttentionKernel::automatic,
                         AttentionKernel::automatic);
  const auto value = [&](const std::string& key) {
    const auto* choice = algorithms(*libraries_).find("attention " + key);
    return choice ? choice->value : "none";
  };
  const std::string taken = " bf16 windows 3 length 128 heads 5 size 64";
  for (const std::string pass : {"forward", "backward"}) {
    EXPECT_TRUE(value(pass + taken) == "native" || value(pass + taken) == "cudnn") << pass;
    EXPECT_EQ(value(pass + " bf16 windows 1 length 128 heads 2 size 256"), "native") << pass;
  }
}

TEST_F(WindowAttentionGpu, UnmeasuredChoicesAreCorrect) {
  for (const Case& c : {Case{3, 128, 5, 64, 16}, Case{2, 65, 3, 64, 16}})
    expect_correct<bf16>(queue(), libraries_.get(), Problem<bf16>(c), AttentionKernel::automatic,
                         AttentionKernel::automatic);
}

TEST_F(WindowAttentionGpu, CudnnSaysWhatItRefuses) {
  const Problem<bf16> problem({1, 128, 2, 256, 64}, false);
  OnDevice<bf16> device(queue(), libraries_.get(), problem);
  try {
    device.forward(AttentionKernel::cudnn);
    FAIL() << "a head size of 256 was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::device);
    EXPECT_NE(std::string(error.what()).find("size 256"), std::string::npos) << error.what();
  }
}

// Two runs, and a forward repeated on what the first left, give the same bits.
TEST_F(WindowAttentionGpu, RunsRepeatBitForBit) {
  for (const Case& c : {Case{4, 5, 3, 64, 16}, Case{3, 128, 5, 64, 16}, Case{1, 512, 3, 128, 32}})
    for (const AttentionKernel kernel : {AttentionKernel::native, AttentionKernel::cudnn}) {
      const Problem<bf16> problem(c, false);
      OnDevice<bf16> first(queue(), libraries_.get(), problem);
      OnDevice<bf16> second(queue(), libraries_.get(), problem);
      for (OnDevice<bf16>* device : {&first, &second}) {
        device->need(kernel);
        device->forward(kernel);
        device->backward(kernel);
      }
      second.forward(kernel, true);
      EXPECT_TRUE(same_bits(first.out.host(), second.out.host())) << c.describe();
      EXPECT_TRUE(same_bits(first.lse.host(), second.lse.host())) << c.describe();
      EXPECT_TRUE(same_bits(first.dqkv.host(), second.dqkv.host())) << c.describe();
    }
}

TEST_F(WindowAttentionGpu, CapturedRunsGiveTheSameBits) {
  for (const AttentionKernel kernel : {AttentionKernel::native, AttentionKernel::cudnn}) {
    const Problem<bf16> problem({3, 128, 5, 64, 16}, false);
    OnDevice<bf16> eager(queue(), libraries_.get(), problem);
    OnDevice<bf16> captured(queue(), libraries_.get(), problem);
    eager.need(kernel);
    eager.forward(kernel);
    eager.backward(kernel);
    captured.need(kernel);
    const auto stream = static_cast<cudaStream_t>(captured.queue.stream);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    captured.forward(kernel);
    captured.backward(kernel);
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    EXPECT_TRUE(same_bits(eager.out.host(), captured.out.host()));
    EXPECT_TRUE(same_bits(eager.dqkv.host(), captured.dqkv.host()));
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }
}

// cuDNN's backward of this shape would need 400 MiB at once: it runs in parts.
TEST_F(WindowAttentionGpu, CudnnBackwardInPartsAgreesWithNative) {
  const Problem<bf16> problem({6, 2048, 8, 64, 16}, false);
  OnDevice<bf16> native(queue(), libraries_.get(), problem);
  OnDevice<bf16> cudnn(queue(), libraries_.get(), problem);
  native.need(AttentionKernel::native);
  cudnn.need(AttentionKernel::cudnn);
  EXPECT_LE(cudnn.queue.workspace_bytes, std::int64_t{264} << 20);
  native.forward(AttentionKernel::native);
  cudnn.forward(AttentionKernel::cudnn);
  native.backward(AttentionKernel::native);
  cudnn.backward(AttentionKernel::cudnn);
  cudnn.expect_output(as_double(native.out.host()), kOutTolerance<bf16>, "out");
  cudnn.expect_gradient(as_double(native.dqkv.host()), kGradientTolerance<bf16>, "dqkv");
}

}  // namespace
}  // namespace tessera::kernels::gpu
