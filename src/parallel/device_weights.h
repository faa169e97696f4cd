// A model's flat parameters as a device computes with them, from float32 ones in host memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/device_memory.h"
#include "core/error.h"
#include "core/memory.h"
#include "kernels/cast.h"
#include "kernels/queue.h"

namespace tessera::parallel {

template <typename T>
class DeviceWeights {
 public:
  // Reserves `count` elements on CUDA; a CPU uses the host's own.
  void plan(MemoryPlan& plan, Device device, std::int64_t count) {
    count_ = count;
    if (device == Device::cuda) buffer_ = plan.reserve<T>("parameters", count);
  }
  // Fills them from `host`, [count], which must outlive the weights on the CPU. bf16 goes through
  // the queue's workspace. Returns them.
  const T* fill(const kernels::Queue& queue, const Arena& arena, const float* host) {
    if (queue.device == Device::cpu) {
      if constexpr (std::is_same_v<T, float>) return host;
      TESSERA_CHECK(false);
    }
    T* const there = arena.at<T>(buffer_);
    constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
    if constexpr (std::is_same_v<T, float>) {
      upload(queue.device, there, host, count_ * kFloat, queue.stream);
    } else {
      auto* staged = reinterpret_cast<float*>(queue.workspace);
      const std::int64_t part = queue.workspace_bytes / kFloat;
      for (std::int64_t i = 0; i < count_; i += part) {
        const std::int64_t n = std::min(part, count_ - i);
        upload(queue.device, staged, host + i, n * kFloat, queue.stream);
        kernels::cast_to_bf16(queue, {n, staged, reinterpret_cast<std::uint16_t*>(there + i)});
      }
    }
    return there;
  }

 private:
  std::int64_t count_ = 0;
  Buffer buffer_;
};

}  // namespace tessera::parallel
