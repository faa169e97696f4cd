// What CUDA kernel tests share: a stream, device buffers, random inputs in bf16 or float with the
// double values they stand for, and comparison with the CPU backend in double.
//
// Inputs are rounded to T first and the reference runs on the rounded values, so what is compared
// is the kernel's own error: tolerances are a few units of T's last place at the result's scale.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "core/random.h"
#include "kernels/dtype.h"
#include "kernels/libraries.h"
#include "kernels/queue.h"

namespace tessera::kernels::gpu {

inline float to_float(float x) {
  return x;
}
inline float to_float(double x) {
  return static_cast<float>(x);
}
inline float to_float(bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

template <typename T>
T from_double(double value) {
  if constexpr (std::is_same_v<T, bf16>) {
    const auto f = static_cast<float>(value);
    const auto bits = std::bit_cast<std::uint32_t>(f);
    return bf16{static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  } else {
    return static_cast<T>(value);
  }
}

// Largest relative rounding error of T: half a unit in the last place.
template <typename T>
inline constexpr double kRounding = std::is_same_v<T, bf16> ? 0.00390625 : 5.97e-8;

// count values N(0, deviation), rounded to T; `as_double` are the same numbers.
template <typename T>
struct Values {
  std::vector<T> typed;
  std::vector<double> as_double;

  Values() = default;
  Values(std::int64_t count, std::uint64_t seed, double deviation = 1, double mean = 0) {
    const CounterRandom random(seed, 17);
    for (std::int64_t i = 0; i < count; ++i)
      push(mean + deviation * random.normal(static_cast<std::uint64_t>(i)));
  }
  void push(double value) {
    typed.push_back(from_double<T>(value));
    as_double.push_back(static_cast<double>(to_float(typed.back())));
  }
};

// Device memory, filled with NaN bytes unless values are given, so that unwritten outputs show.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::int64_t count) : count_(count) {
    allocate();
    EXPECT_EQ(cudaMemset(pointer_, 0xff, bytes()), cudaSuccess);
    // The fill is asynchronous, and tests run on streams that do not wait for it.
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values)
      : count_(static_cast<std::int64_t>(values.size())) {
    allocate();
    EXPECT_EQ(cudaMemcpy(pointer_, values.data(), bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~DeviceArray() { cudaFree(pointer_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return pointer_; }
  std::int64_t count() const { return count_; }
  std::vector<T> host() const {
    std::vector<T> values(static_cast<std::size_t>(count_));
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(values.data(), pointer_, bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }
  void allocate() {
    void* p = nullptr;
    ASSERT_EQ(cudaMalloc(&p, bytes() + 16), cudaSuccess);
    pointer_ = static_cast<T*>(p);
  }
  std::int64_t count_;
  T* pointer_ = nullptr;
};

// The same values as double.
template <typename T>
std::vector<double> widen(const std::vector<T>& values) {
  std::vector<double> result;
  for (const T& x : values) result.push_back(static_cast<double>(to_float(x)));
  return result;
}

// ||actual - expected|| / ||expected||; NaN shows.
template <typename T>
double relative_error(const std::vector<T>& actual, const std::vector<double>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double d = static_cast<double>(to_float(actual[i])) - expected[i];
    difference += d * d;
    norm += expected[i] * expected[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

using DeviceTypes = ::testing::Types<float, bf16>;

// Every element within tolerance * max(|expected|, scale); NaN never passes. Reports the worst.
template <typename T>
void expect_close(const std::vector<T>& actual, const std::vector<double>& expected,
                  double tolerance, double scale, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double got = static_cast<double>(to_float(actual[i]));
    const double error = std::abs(got - expected[i]) / std::max(std::abs(expected[i]), scale);
    if (!(error <= worst)) worst = error, at = i;
    if (std::isnan(error)) break;
  }
  EXPECT_LE(worst, tolerance) << what << ": element " << at << " of " << actual.size() << " is "
                              << to_float(actual[at]) << ", expected " << expected[at];
}

// The fixture: skips without a device, gives a queue with a workspace.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    workspace_ = std::make_unique<DeviceArray<std::byte>>(kWorkspaceBytes);
    libraries_ = open_libraries();
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  void TearDown() override {
    if (!stream_) return;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    cudaStreamDestroy(stream_);
  }
  Queue queue() const {
    Queue queue;
    queue.device = Device::cuda;
    queue.stream = stream_;
    queue.workspace = workspace_->get();
    queue.workspace_bytes = kWorkspaceBytes;
    queue.libraries = libraries_.get();
    return queue;
  }

 private:
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<DeviceArray<std::byte>> workspace_;
  LibrariesHandle libraries_;
};

}  // namespace tessera::kernels::gpu
