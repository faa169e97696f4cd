// Work sharing and scratch memory of the CPU kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include <omp.h>

namespace tessera::kernels::cpu {

// Calls body(begin, end) for contiguous ranges that cover [0, count), one a thread, cut at
// multiples of `unit`. Work of fewer than `serial_below` items stays on the calling thread, as does
// everything inside a parallel region. Always all threads or one: teams of changing size would make
// the OpenMP runtime start and end threads.
template <typename Body>
void parallel_ranges(std::int64_t count, std::int64_t unit, std::int64_t serial_below, Body body) {
  if (count <= 0) return;
  if (count < serial_below || omp_get_max_threads() == 1 || omp_in_parallel()) {
    body(std::int64_t{0}, count);
    return;
  }
  const std::int64_t units = (count + unit - 1) / unit;
#pragma omp parallel
  {
    const std::int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
    const std::int64_t begin = units * me / threads * unit;
    const std::int64_t end = std::min(count, units * (me + 1) / threads * unit);
    if (begin < end) body(begin, end);
  }
}

// Elements below which an element-wise pass is not worth waking the other threads.
inline constexpr std::int64_t kSerialElements = 16384;

// Grow-only memory of the calling thread, aligned to 64 bytes and not initialised: the first call
// at a size allocates, later ones do not. `Tag` separates uses that are alive at the same time.
template <typename T, typename Tag>
T* scratch(std::int64_t count) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  static thread_local std::unique_ptr<void, Free> memory;
  static thread_local std::size_t capacity = 0;
  const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
  if (bytes > capacity) {
    memory.reset();
    capacity = 0;
    memory.reset(std::aligned_alloc(64, bytes));
    if (!memory) throw std::bad_alloc();
    capacity = bytes;
  }
  return static_cast<T*>(memory.get());
}

}  // namespace tessera::kernels::cpu
