// Memory of a device and copies between it and the host. On Device::cpu everything is host memory
// and synchronous; on Device::cuda it is the current CUDA device's.
//
// Errors: Error{device} with CUDA's own words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/device.h"

namespace tessera {

// CUDA devices that this process can use; 0 in a build without CUDA or on a machine without one.
// What starts CUDA in a process, with the environment it needs (launch/env.sh).
int cuda_device_count();
// Makes the host's GPU number `local_rank` this process's; before anything else that touches a GPU.
// Error{device} naming CUDA_VISIBLE_DEVICES when fewer are visible.
void use_gpu(std::int64_t local_rank);
// "NVIDIA H100 80GB HBM3", "GPU-8d4e...", 132 processors, bytes of memory; for start-up lines and
// plans.
struct DeviceInfo {
  std::string name, uuid;
  int processors = 0;
  std::int64_t total_bytes = 0, free_bytes = 0;
};
DeviceInfo device_info();

// 256-byte aligned (64 on the host), zeroed.
std::byte* allocate_memory(Device device, std::int64_t bytes);
void free_memory(Device device, std::byte* memory) noexcept;
// Zeroed host memory, page-locked for Device::cuda: what copies run from and to behind other work.
class HostMemory {
 public:
  HostMemory(Device device, std::int64_t bytes);
  ~HostMemory();
  HostMemory(HostMemory&& other) noexcept;
  HostMemory& operator=(HostMemory&&) = delete;
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(memory_);
  }

 private:
  Device device_;
  std::byte* memory_ = nullptr;
};

// `stream` is a cudaStream_t. The host side may be reused at once after upload and read at once
// after download.
void upload(Device device, void* to, const void* from, std::int64_t bytes, void* stream = nullptr);
void download(Device device, void* to, const void* from, std::int64_t bytes,
              void* stream = nullptr);
// Asynchronous on CUDA: the host side is pinned and stays untouched until the stream has got there.
void upload_async(Device device, void* to, const void* pinned, std::int64_t bytes, void* stream);
void download_async(Device device, void* pinned, const void* from, std::int64_t bytes,
                    void* stream);
// From one place of the device's memory to another. Asynchronous on CUDA.
void copy_memory(Device device, void* to, const void* from, std::int64_t bytes, void* stream);
// Asynchronous on CUDA.
void zero_memory(Device device, void* memory, std::int64_t bytes, void* stream);

}  // namespace tessera
