// Prompt rows into a cache. An item is one of a head's slots: the rotated part of q, the rotated
// part of k, or a vector of what is only copied (the rest of k, all of v). Whoever rotates a pair
// reads and writes both of its ends, so rotating in place needs no order.
#include "kernels/cache_rows.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace tessera::kernels::cuda {
namespace {

template <typename T, bool kVectors>
__global__ void cache(const CacheRows<T> a) {
  constexpr int kWide = kVectors ? kLanes<T> : 1;
  const auto d = static_cast<std::uint32_t>(a.head_size), r = static_cast<std::uint32_t>(a.rotary);
  const auto heads = static_cast<std::uint32_t>(a.heads);
  const std::uint32_t rest = (d - r) / kWide, slots = 2 + rest + d / kWide;
  const std::int64_t total = a.windows * a.length * heads * slots;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const std::int64_t at = i / slots;  // row and head
    const auto slot = static_cast<std::uint32_t>(i - at * slots);
    const std::int64_t row = at / heads, window = row / a.length, inside = row - window * a.length;
    const std::int64_t h = at - row * heads;
    T* const q = a.qkv + at * 3 * d;
    const std::int64_t to = window * a.cache_window + inside * a.cache_row + h * d;
    if (slot >= 2) {
      std::uint32_t c = slot - 2;
      const bool of_k = c < rest;
      c = of_k ? r + c * kWide : (c - rest) * kWide;
      const T* from = q + (of_k ? d : 2 * d) + c;
      T* const into = (of_k ? a.keys : a.values) + to + c;
      if constexpr (kVectors)
        *reinterpret_cast<uint4*>(into) = load_raw(from);
      else
        *into = *from;
      continue;
    }
    const std::uint32_t half = r / 2;
    const std::int64_t angle = (a.first_position + inside) * half;
    T* const x = q + slot * d;
    for (std::uint32_t j = 0; j < half; ++j) {
      const float low = to_float(x[j]), high = to_float(x[j + half]);
      const float c = a.cos[angle + j], s = a.sin[angle + j];
      const T u = from_float<T>(low * c - high * s), v = from_float<T>(high * c + low * s);
      x[j] = u;
      x[j + half] = v;
      if (slot == 1) {
        a.keys[to + j] = u;
        a.keys[to + j + half] = v;
      }
    }
  }
}

}  // namespace

template <typename T>
void cache_rows(const Queue& queue, const CacheRows<T>& a) {
  const std::int64_t items = a.windows * a.length * a.heads * (2 + 2 * a.head_size);
  if (items <= 0) return;
  constexpr std::int64_t kWide = kLanes<T>;
  const bool vectors = a.head_size % kWide == 0 && a.rotary % kWide == 0 &&
                       a.cache_window % kWide == 0 && a.cache_row % kWide == 0 &&
                       vector_aligned(a.qkv, a.keys, a.values);
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  const auto kernel = vectors ? cache<T, true> : cache<T, false>;
  kernel<<<grid_blocks(vectors ? items / kWide : items), kBlockThreads, 0, stream>>>(a);
  check_launch("cache_rows");
}

template void cache_rows(const Queue&, const CacheRows<float>&);
template void cache_rows(const Queue&, const CacheRows<bf16>&);

}  // namespace tessera::kernels::cuda
