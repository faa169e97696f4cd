#include "core/device_memory.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/cuda_check.h"
#include "core/error.h"

namespace tessera {
namespace {

[[noreturn, maybe_unused]] void no_cuda() {
  throw Error(Category::device, "this build has no CUDA backend");
}

#ifdef TESSERA_HAS_CUDA
// As nvidia-smi prints it: "GPU-" and 8-4-4-4-12 hexadecimal digits.
std::string uuid_text(const cudaUUID_t& uuid) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = static_cast<unsigned char>(uuid.bytes[i]);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}
#endif

}  // namespace

int cuda_device_count() {
#ifdef TESSERA_HAS_CUDA
  // Hardware queues, read when CUDA starts. With the default 8 a kernel that waits for another rank
  // could stand before the very work that rank waits for.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
#else
  return 0;
#endif
}

void use_gpu(std::int64_t local_rank) {
#ifdef TESSERA_HAS_CUDA
  const int count = cuda_device_count();
  if (local_rank >= count) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    throw Error(Category::device, "rank " + std::to_string(local_rank) +
                                      " of this host (counted from 0) needs a GPU of its own, " +
                                      "but CUDA shows " + std::to_string(count) +
                                      " (CUDA_VISIBLE_DEVICES is " +
                                      (visible ? "\"" + std::string(visible) + "\"" : "not set") +
                                      "); start fewer ranks here or let every rank see all GPUs");
  }
  check_cuda(cudaSetDevice(static_cast<int>(local_rank)), "choosing the rank's GPU");
#else
  (void)local_rank;
  no_cuda();
#endif
}

DeviceInfo device_info() {
#ifdef TESSERA_HAS_CUDA
  int device = 0;
  check_cuda(cudaGetDevice(&device), "the current device");
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, device), "device properties");
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "free memory");
  return {properties.name, uuid_text(properties.uuid), properties.multiProcessorCount,
          static_cast<std::int64_t>(total), static_cast<std::int64_t>(free)};
#else
  no_cuda();
#endif
}

std::byte* allocate_memory(Device device, std::int64_t bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  if (device == Device::cpu) {
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, (size + 63) / 64 * 64));
    if (memory) std::memset(memory, 0, size);
    if (memory || bytes == 0) return memory;
    throw Error(Category::device, "out of memory: " + std::to_string(bytes) +
                                      " bytes were asked for; lower train.micro_batch or the "
                                      "model's size");
  }
#ifdef TESSERA_HAS_CUDA
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, size);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    throw Error(Category::device, "out of device memory: " + std::to_string(bytes) +
                                      " bytes were asked for and " +
                                      std::to_string(device_info().free_bytes) +
                                      " are free; lower train.micro_batch or the model's size");
  }
  check_cuda(error, "allocating device memory");
  check_cuda(cudaMemset(memory, 0, size), "clearing device memory");
  check_cuda(cudaDeviceSynchronize(), "clearing device memory");
  return static_cast<std::byte*>(memory);
#else
  no_cuda();
#endif
}

void free_memory(Device device, std::byte* memory) noexcept {
  if (device == Device::cpu) std::free(memory);
#ifdef TESSERA_HAS_CUDA
  if (device == Device::cuda) cudaFree(memory);
#endif
}

HostMemory::HostMemory(Device device, std::int64_t bytes) : device_(device) {
  if (device == Device::cpu) {
    memory_ = allocate_memory(device, bytes);
    return;
  }
#ifdef TESSERA_HAS_CUDA
  void* memory = nullptr;
  check_cuda(cudaMallocHost(&memory, static_cast<std::size_t>(bytes)), "page-locked memory");
  memory_ = static_cast<std::byte*>(std::memset(memory, 0, static_cast<std::size_t>(bytes)));
#else
  no_cuda();
#endif
}

HostMemory::HostMemory(HostMemory&& other) noexcept
    : device_(other.device_), memory_(std::exchange(other.memory_, nullptr)) {}

HostMemory::~HostMemory() {
  if (!memory_) return;
  if (device_ == Device::cpu) free_memory(device_, memory_);
#ifdef TESSERA_HAS_CUDA
  if (device_ == Device::cuda) cudaFreeHost(memory_);
#endif
}

void upload_async(Device device, void* to, const void* from, std::int64_t bytes, void* stream) {
  if (device == Device::cpu) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return;
  }
#ifdef TESSERA_HAS_CUDA
  check_cuda(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice,
                             static_cast<cudaStream_t>(stream)),
             "copying to the device");
#else
  (void)stream;
  no_cuda();
#endif
}

void download_async(Device device, void* to, const void* from, std::int64_t bytes, void* stream) {
  if (device == Device::cpu) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return;
  }
#ifdef TESSERA_HAS_CUDA
  check_cuda(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                             static_cast<cudaStream_t>(stream)),
             "copying from the device");
#else
  (void)stream;
  no_cuda();
#endif
}

namespace {
void wait_for(Device device, void* stream) {
#ifdef TESSERA_HAS_CUDA
  if (device == Device::cuda)
    check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for a copy");
#else
  (void)device, (void)stream;
#endif
}
}  // namespace

void upload(Device device, void* to, const void* from, std::int64_t bytes, void* stream) {
  upload_async(device, to, from, bytes, stream);
  wait_for(device, stream);
}

void download(Device device, void* to, const void* from, std::int64_t bytes, void* stream) {
  download_async(device, to, from, bytes, stream);
  wait_for(device, stream);
}

void copy_memory(Device device, void* to, const void* from, std::int64_t bytes, void* stream) {
  if (device == Device::cpu) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return;
  }
#ifdef TESSERA_HAS_CUDA
  check_cuda(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                             static_cast<cudaStream_t>(stream)),
             "copying on the device");
#else
  (void)stream;
  no_cuda();
#endif
}

void zero_memory(Device device, void* memory, std::int64_t bytes, void* stream) {
  if (device == Device::cpu) {
    std::memset(memory, 0, static_cast<std::size_t>(bytes));
    return;
  }
#ifdef TESSERA_HAS_CUDA
  check_cuda(cudaMemsetAsync(memory, 0, static_cast<std::size_t>(bytes),
                             static_cast<cudaStream_t>(stream)),
             "clearing device memory");
#else
  (void)stream;
  no_cuda();
#endif
}

}  // namespace tessera
