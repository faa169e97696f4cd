// Planned memory: every buffer is sized and named before the first step, all of it is allocated
// once, and the plan is what the run prints. Nothing here allocates after Arena's construction.
//
// Use: reserve buffers in a MemoryPlan (each returns a Buffer, an offset), build one Arena from the
// plan, then turn Buffers into pointers with `arena.at<T>(buffer)`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"

namespace tessera {

// A reserved range of an arena. Cheap to copy.
struct Buffer {
  std::int64_t offset = 0;  // bytes from the arena's start, a multiple of 256
  std::int64_t bytes = 0;
};

struct MemorySegment {
  std::string name;  // "parameters", "gradients", "adam moments", "activations", ...
  std::int64_t bytes = 0;
};

class MemoryPlan {
 public:
  // Reserves `count` elements of `element_bytes` in the segment `name` (created at first use).
  Buffer reserve(const std::string& segment, std::int64_t count, std::int64_t element_bytes);
  template <typename T>
  Buffer reserve(const std::string& segment, std::int64_t count) {
    return reserve(segment, count, static_cast<std::int64_t>(sizeof(T)));
  }

  std::int64_t total_bytes() const { return total_; }
  const std::vector<MemorySegment>& segments() const { return segments_; }

 private:
  std::vector<MemorySegment> segments_;
  std::int64_t total_ = 0;
};

// One zeroed allocation on a device. Error{device} naming the bytes when there is none.
class Arena {
 public:
  explicit Arena(const MemoryPlan& plan, Device device = Device::cpu);
  Device device() const { return base_.get_deleter().device; }
  template <typename T>
  T* at(const Buffer& buffer) const {
    return reinterpret_cast<T*>(base_.get() + buffer.offset);
  }

 private:
  struct Free {
    Device device = Device::cpu;
    void operator()(std::byte* bytes) const;
  };
  std::unique_ptr<std::byte, Free> base_;
};

}  // namespace tessera
