// Measures single operations: memory filled with random numbers, medians of timed runs, and the two
// ceilings (copy bandwidth, matrix product) of the same process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device_memory.h"
#include "core/device_stream.h"
#include "kernels/libraries.h"
#include "kernels/queue.h"

namespace tessera::cli {

struct KernelTime {
  std::string operation, shape;
  double microseconds = 0;
  double bytes = 0, flops = 0;  // moved (each operand once) or done; one of them is 0
  double fraction = 0;          // of the ceiling: copy bandwidth or the best matrix product
};

struct FreeMemory {
  Device device = Device::cpu;
  void operator()(std::byte* memory) const { free_memory(device, memory); }
};
using OwnedMemory = std::unique_ptr<std::byte, FreeMemory>;

class KernelBench {
 public:
  KernelBench(Device device, std::string filter);

  const kernels::Queue& queue() const { return queue_; }
  bool cuda() const { return queue_.device == Device::cuda; }
  double copy_bandwidth() const { return copy_bandwidth_; }  // bytes a second, read + write
  double gemm_rate() const { return gemm_rate_; }            // FLOP a second
  const std::vector<KernelTime>& times() const { return times_; }

  // `count` elements of T, N(0, deviation), in the device's memory; freed with the bench or by
  // forget(). kernels::bf16 and float.
  template <typename T>
  T* random(std::int64_t count, double deviation = 1, double mean = 0);
  std::int32_t* random_ids(std::int64_t count, std::int64_t below);
  void forget() { memory_.clear(); }
  // Whether rows named `operation` are wanted: spares their memory.
  bool wants(const std::string& operation) const {
    return operation.find(filter_) != std::string::npos;
  }

  void bytes(const std::string& operation, const std::string& shape, double bytes,
             const std::function<void()>& run);
  void flops(const std::string& operation, const std::string& shape, double flops,
             const std::function<void()>& run);

 private:
  std::byte* allocate(std::int64_t bytes);
  // Copies a short host pattern over and over.
  void fill(std::byte* to, std::int64_t bytes, const std::vector<std::byte>& pattern);
  double measure(const std::function<void()>& run);  // seconds
  void find_ceilings();

  std::string filter_;
  DeviceStream stream_;
  kernels::LibrariesHandle libraries_;
  kernels::Queue queue_;
  OwnedMemory workspace_;
  std::vector<OwnedMemory> memory_;
  double copy_bandwidth_ = 0, gemm_rate_ = 0;
  std::vector<KernelTime> times_;
};

}  // namespace tessera::cli
