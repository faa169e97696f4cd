// Times of work on a device: marks set between pieces of work, read when all is done. CUDA events
// on Device::cuda, the steady clock on the CPU.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "core/device.h"

namespace tessera {

class Stopwatch {
 public:
  // `stream`: cudaStream_t whose work is timed.
  Stopwatch(Device device, void* stream) : device_(device), stream_(stream) {}
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  // Sets the next mark behind what the stream has been given; returns its number.
  std::size_t mark();
  // Milliseconds from one mark to a later one; waits for the later one.
  double milliseconds(std::size_t from, std::size_t to) const;

 private:
  Device device_;
  void* stream_;
  std::vector<void*> events_;
  std::vector<std::chrono::steady_clock::time_point> times_;
};

}  // namespace tessera
