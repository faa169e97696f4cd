// Attention of long windows on tensor cores, bf16, against the CPU's in double: every head size and
// lengths around the tiles' edges, sharp softmax, what falls to the scalar kernels, equal bits.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/cuda/attention_paths.h"
#include "tests/kernels/gpu/gpu_check.h"

namespace tessera::kernels::gpu {
namespace {

constexpr std::array<std::int64_t, 8> kHeadSizes = {16, 32, 48, 64, 80, 96, 128, 256};
constexpr std::array<std::int64_t, 11> kLengths = {1, 7, 63, 64, 65, 127, 128, 129, 200, 333, 512};

// Random arguments (q, k and v of a deviation; q and k as if rotated) and, unless left out, the
// CPU's results.
struct Problem {
  Problem(std::int64_t windows, std::int64_t length, std::int64_t heads, std::int64_t head_size,
          double deviation = 1, bool with_reference = true)
      : qkv(3 * windows * length * heads * head_size, 1, deviation),
        dout(windows * length * heads * head_size, 2) {
    shape.windows = windows, shape.length = length;
    shape.heads = heads, shape.head_size = head_size;
    if (with_reference) compute();
  }

  void compute() {
    const AttentionShape s =
        fused_attention_shape(shape.windows, shape.length, shape.heads, shape.head_size);
    const double *q = qkv.as_double.data(), *k = q + s.head_size, *v = k + s.head_size;
    out.resize(dout.typed.size());
    lse.resize(static_cast<std::size_t>(s.windows * s.heads * s.queries));
    dqkv.resize(qkv.typed.size());
    double *dq = dqkv.data(), *dk = dq + s.head_size, *dv = dk + s.head_size;
    cpu::attention_forward<double>({s, q, k, v, nullptr, out.data(), lse.data()});
    cpu::attention_backward<double>(
        {s, q, k, v, nullptr, out.data(), lse.data(), dout.as_double.data(), dq, dk, dv});
  }
  std::string describe() const {
    return "windows " + std::to_string(shape.windows) + " length " + std::to_string(shape.length) +
           " heads " + std::to_string(shape.heads) + " size " + std::to_string(shape.head_size);
  }

  WindowAttentionShape<bf16> shape;
  Values<bf16> qkv, dout;
  std::vector<double> out, lse, dqkv;
};

// `shift` elements before each array: vectors are ruled out unless it is a multiple of 8.
struct OnDevice {
  OnDevice(const Queue& queue, const Problem& problem, std::int64_t shift = 0)
      : p(problem),
        stream(static_cast<cudaStream_t>(queue.stream)),
        start(shift),
        qkv(shifted(p.qkv.typed)),
        dout(shifted(p.dout.typed)),
        out(shift + count(p.dout)),
        dqkv(shift + count(p.qkv)),
        lse(p.shape.windows * p.shape.heads * p.shape.length),
        workspace(cuda::flash_attention_workspace<bf16>(p.shape)) {}

  static std::int64_t count(const Values<bf16>& values) {
    return static_cast<std::int64_t>(values.typed.size());
  }
  std::vector<bf16> shifted(std::vector<bf16> values) const {
    values.insert(values.begin(), static_cast<std::size_t>(start), bf16{});
    return values;
  }
  std::vector<bf16> host(const DeviceArray<bf16>& array) const {
    const std::vector<bf16> values = array.host();
    return {values.begin() + start, values.end()};
  }
  void forward(bool with_lse = true) {
    cuda::flash_attention_forward<bf16>(
        {p.shape, qkv.get() + start, out.get() + start, with_lse ? lse.get() : nullptr, false},
        stream);
  }
  void backward() {
    WindowAttentionBackward<bf16> args;
    args.shape = p.shape;
    args.qkv = qkv.get() + start, args.out = out.get() + start, args.lse = lse.get();
    args.dout = dout.get() + start, args.dqkv = dqkv.get() + start;
    cuda::flash_attention_backward<bf16>(args, workspace.get(), stream);
  }

  const Problem& p;
  cudaStream_t stream;
  std::int64_t start;
  DeviceArray<bf16> qkv, dout, out, dqkv;
  DeviceArray<float> lse;
  DeviceArray<std::byte> workspace;
};

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double x : values) sum += x * x;
  return std::sqrt(sum);
}

// ||actual - expected||; NaN where something was not written.
double distance(const std::vector<bf16>& actual, const std::vector<double>& expected) {
  std::vector<double> difference;
  for (std::size_t i = 0; i < expected.size(); ++i)
    difference.push_back(static_cast<double>(to_float(actual[i])) - expected[i]);
  return norm(difference);
}

// Every third run of head_size elements, from the `part`th on: q, k or v of a fused matrix.
template <typename T>
std::vector<T> part_of(const std::vector<T>& fused, std::size_t part, std::size_t head_size) {
  std::vector<T> values;
  for (std::size_t at = part * head_size; at < fused.size(); at += 3 * head_size)
    values.insert(values.end(), fused.begin() + static_cast<std::ptrdiff_t>(at),
                  fused.begin() + static_cast<std::ptrdiff_t>(at + head_size));
  return values;
}

// Norms within `out_roundings` and `gradient_roundings` of bf16. A gradient that all but vanishes
// is held to the size of the whole.
void expect_norms(const OnDevice& device, double out_roundings, double gradient_roundings) {
  const Problem& p = device.p;
  EXPECT_LE(distance(device.host(device.out), p.out), out_roundings * kRounding<bf16> * norm(p.out))
      << p.describe() << ", out";
  const auto size = static_cast<std::size_t>(p.shape.head_size);
  const std::vector<bf16> dqkv = device.host(device.dqkv);
  for (std::size_t part = 0; part < 3; ++part) {
    const std::vector<double> expected = part_of(p.dqkv, part, size);
    EXPECT_LE(distance(part_of(dqkv, part, size), expected),
              gradient_roundings * kRounding<bf16> * std::max(norm(expected), 0.1 * norm(p.dqkv)))
        << p.describe() << ", gradient of "
        << "qkv"[part];
  }
}

bool same_bits(const std::vector<bf16>& a, const std::vector<bf16>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(bf16)) == 0;
}

class FlashAttentionGpu : public GpuTest {};

// Out, p and ds are rounded once: half a rounding of bf16 in the norm of out and dv, not quite one
// of dq and dk. Elements are sums of values of size 1.
TEST_F(FlashAttentionGpu, MatchesTheCpuAtEveryHeadSizeAndLength) {
  for (std::size_t i = 0; i < kHeadSizes.size(); ++i)
    for (std::size_t j = 0; j < kLengths.size(); ++j) {
      const auto windows = static_cast<std::int64_t>(kLengths[j] > 200 ? 1 : 1 + (i + j / 3) % 3);
      const Problem problem(windows, kLengths[j], static_cast<std::int64_t>(1 + (2 * i + j) % 3),
                            kHeadSizes[i]);
      OnDevice device(queue(), problem);
      device.forward();
      device.backward();
      expect_norms(device, 1, 1.5);
      const std::string what = problem.describe();
      expect_close(device.host(device.out), problem.out, 6 * kRounding<bf16>, 1.0, what + ", out");
      expect_close(device.lse.host(), problem.lse, 1e-5, 1.0, what + ", lse");
      expect_close(device.host(device.dqkv), problem.dqkv, 10 * kRounding<bf16>, 1.0,
                   what + ", dqkv");
    }
}

// Scores of some tens: a row's largest grows on its way along the keys, and the reference of its
// exponents must follow. Gradients are small differences then.
TEST_F(FlashAttentionGpu, SharpRowsMatchTheCpu) {
  for (const std::int64_t head_size : {48, 64, 128, 256})
    for (const double deviation : {3.0, 6.0}) {
      const Problem problem(1, 300, 2, head_size, deviation);
      OnDevice device(queue(), problem);
      device.forward();
      device.backward();
      expect_norms(device, 1, 4);
      expect_close(device.lse.host(), problem.lse, 1e-5, 10.0, problem.describe() + ", lse");
    }
}

TEST_F(FlashAttentionGpu, LongWindowsMatchTheCpu) {
  for (const std::int64_t head_size : {64, 128}) {
    const Problem problem(1, 1111, 1, head_size);
    OnDevice device(queue(), problem);
    device.forward();
    device.backward();
    expect_norms(device, 1, 1.5);
  }
}

// Head sizes that are no multiple of 16, or above 128, and addresses that are no multiple of 16
// bytes, are the scalar kernels' work.
TEST_F(FlashAttentionGpu, OtherHeadSizesAndAddressesMatchTheCpu) {
  struct Case {
    std::int64_t head_size, shift;
  };
  for (const Case c : {Case{20, 0}, Case{160, 0}, Case{64, 1}, Case{64, 4}, Case{64, 8}}) {
    const Problem problem(2, 130, 2, c.head_size);
    OnDevice device(queue(), problem, c.shift);
    device.forward();
    device.backward();
    expect_norms(device, 1, 1.5);
  }
}

TEST_F(FlashAttentionGpu, RunsRepeatBitForBitAndLseIsOptional) {
  for (const std::int64_t head_size : kHeadSizes) {
    const Problem problem(3, 517, 5, head_size, 1, false);
    OnDevice first(queue(), problem), second(queue(), problem);
    for (OnDevice* device : {&first, &second}) {
      device->forward();
      device->backward();
    }
    second.forward(false);
    EXPECT_TRUE(same_bits(first.host(first.out), second.host(second.out))) << problem.describe();
    EXPECT_TRUE(same_bits(first.host(first.dqkv), second.host(second.dqkv))) << problem.describe();
    EXPECT_EQ(first.lse.host(), second.lse.host()) << problem.describe();
  }
}

// Windows alike, in several groups of the grid of which the last is not full, give the same bits.
TEST_F(FlashAttentionGpu, WindowsDoNotDependOnTheirPlace) {
  constexpr std::int64_t kWindows = 7;
  Problem problem(1, 2000, 3, 256, 1, false);
  const auto repeat = [](std::vector<bf16>& values) {
    const std::vector<bf16> one = values;
    for (std::int64_t w = 1; w < kWindows; ++w) values.insert(values.end(), one.begin(), one.end());
  };
  repeat(problem.qkv.typed);
  repeat(problem.dout.typed);
  problem.shape.windows = kWindows;
  OnDevice device(queue(), problem);
  device.forward();
  device.backward();
  const auto expect_windows_alike = [](const auto& values, const char* what) {
    const auto each = static_cast<std::ptrdiff_t>(values.size()) / kWindows;
    ASSERT_FALSE(std::isnan(to_float(values[0]))) << what;
    for (std::int64_t w = 1; w < kWindows; ++w)
      EXPECT_EQ(std::memcmp(values.data(), values.data() + w * each,
                            static_cast<std::size_t>(each) * sizeof(values[0])),
                0)
          << what << " of window " << w;
  };
  expect_windows_alike(device.host(device.out), "out");
  expect_windows_alike(device.lse.host(), "lse");
  expect_windows_alike(device.host(device.dqkv), "dqkv");
}

TEST_F(FlashAttentionGpu, EmptyShapesAndTooLargeOnes) {
  Problem problem(1, 3, 1, 64, 1, false);
  OnDevice device(queue(), problem);
  problem.shape.windows = 0;
  device.forward();
  device.backward();
  for (const bf16 x : device.host(device.out)) EXPECT_EQ(x.bits, 0xffff);
  for (const bf16 x : device.host(device.dqkv)) EXPECT_EQ(x.bits, 0xffff);
  problem.shape.windows = std::int64_t{1} << 31;
  EXPECT_THROW(device.forward(), Error);
}

}  // namespace
}  // namespace tessera::kernels::gpu
