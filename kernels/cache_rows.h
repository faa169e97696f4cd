// Prompt rows into a cache of keys and values: rotary positions in place, then a copy of k and v.
//
// qkv [windows * length, heads, 3, d]: q and k of row i of every window are rotated by position
// first_position + i (the equation and the tables of kernels/rotary.h), in place; rotated k and v
// go to row i of the window's cache: keys + w * cache_window + i * cache_row, [heads, d], and the
// same for values (strides in elements).
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct CacheRows {
  std::int64_t windows = 0, length = 0, heads = 0, head_size = 0;
  std::int64_t rotary = 0;  // rotated components of a head, even
  std::int64_t first_position = 0;
  const Wide<T>*cos = nullptr, *sin = nullptr;  // [positions, rotary / 2]
  T* qkv = nullptr;
  T *keys = nullptr, *values = nullptr;
  std::int64_t cache_window = 0, cache_row = 0;
};

namespace cpu {
template <typename T>
void cache_rows(const CacheRows<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void cache_rows(const Queue& queue, const CacheRows<T>& args);
}  // namespace cuda

template <typename T>
void cache_rows(const Queue& queue, const CacheRows<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::cache_rows(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::cache_rows(args);
  refuse(queue, "cache_rows");
}

}  // namespace tessera::kernels
