// bfloat16 casts on the device: the same bits as the CPU's, at every size and alignment.
#include "kernels/cast.h"

#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "tests/kernels/cast_values.h"

namespace tessera::kernels::check {
namespace {

struct FreeDevice {
  void operator()(void* p) const { cudaFree(p); }
};

template <typename T>
std::unique_ptr<T, FreeDevice> on_device(const std::vector<T>& values) {
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, values.size() * sizeof(T)), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(p, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
            cudaSuccess);
  return std::unique_ptr<T, FreeDevice>(static_cast<T*>(p));
}

template <typename T>
std::vector<T> on_host(const T* device, std::size_t count) {
  std::vector<T> values(count);
  EXPECT_EQ(cudaMemcpy(values.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost),
            cudaSuccess);
  return values;
}

class CastGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_) cudaStreamDestroy(stream_);
  }
  Queue queue() const { return Queue{Device::cuda, stream_}; }
  void finish() { ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

 private:
  cudaStream_t stream_ = nullptr;
};

TEST_F(CastGpu, SameBitsAsTheCpuAtEverySizeAndAlignment) {
  const std::vector<float> values = cast_values();
  const auto device = on_device(values);
  for (const std::size_t shift : {0, 1, 4})
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{7},
                                    std::size_t{4099}, values.size() - shift}) {
      std::vector<std::uint16_t> expected(values.size() + 8, 7);
      const auto halves = on_device(expected);
      const CastToBf16 host{static_cast<std::int64_t>(count), values.data() + shift,
                            expected.data() + shift};
      cpu::cast_to_bf16(host);
      cast_to_bf16(queue(), CastToBf16{host.count, device.get() + shift, halves.get() + shift});
      finish();
      EXPECT_EQ(on_host(halves.get(), expected.size()), expected) << count << " from " << shift;
    }
}

TEST_F(CastGpu, TheWayBackIsTheCpus) {
  std::vector<std::uint16_t> halves(0x10003);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> expected(halves.size());
  cpu::cast_from_bf16(CastFromBf16{0x10003, halves.data(), expected.data()});
  const auto from = on_device(halves);
  const auto to = on_device(std::vector<float>(halves.size()));
  cast_from_bf16(queue(), CastFromBf16{0x10003, from.get(), to.get()});
  finish();
  const std::vector<float> values = on_host(to.get(), halves.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(expected[i]));
}

}  // namespace
}  // namespace tessera::kernels::check
