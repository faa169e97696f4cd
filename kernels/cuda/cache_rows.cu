// Prompt rows into a cache. An item is one of a head's slots: some pairs of the rotated part of q
// or of k, or a vector of what is only copied (the rest of k, all of v). Whoever rotates a pair
// reads and writes both of its ends, so rotating in place needs no order.
#include "kernels/cache_rows.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace tessera::kernels::cuda {
namespace {

template <int kCount>
__device__ __forceinline__ void load_angles(const float* from, float (&x)[kCount]) {
  if constexpr (kCount % 4 == 0) {
#pragma unroll
    for (int j = 0; j < kCount; j += 4) {
      const float4 v = __ldg(reinterpret_cast<const float4*>(from + j));
      x[j] = v.x, x[j + 1] = v.y, x[j + 2] = v.z, x[j + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int j = 0; j < kCount; ++j) x[j] = from[j];
  }
}

// kWide elements at a time. Index: 32 bits wherever they count all items.
template <typename T, int kWide, typename Index>
__global__ void cache(const CacheRows<T> a) {
  const auto d = static_cast<Index>(a.head_size), half = static_cast<Index>(a.rotary / 2);
  const auto heads = static_cast<Index>(a.heads), length = static_cast<Index>(a.length);
  const Index turning = half / kWide, rest = (d - 2 * half) / kWide;
  const Index slots = 2 * turning + rest + d / kWide;
  const Index total = static_cast<Index>(a.windows) * length * heads * slots;
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const Index at = i / slots, slot = i - at * slots;  // at: row and head
    const Index row = at / heads, window = row / length, inside = row - window * length;
    T* const q = a.qkv + static_cast<std::int64_t>(at) * 3 * d;
    const std::int64_t to = window * a.cache_window + inside * a.cache_row +
                            static_cast<std::int64_t>(at - row * heads) * d;
    if (slot >= 2 * turning) {
      Index c = slot - 2 * turning;
      const bool of_k = c < rest;
      c = of_k ? 2 * half + c * kWide : (c - rest) * kWide;
      const T* const from = q + (of_k ? d : 2 * d) + c;
      T* const into = (of_k ? a.keys : a.values) + to + c;
      if constexpr (kWide > 1)
        *reinterpret_cast<uint4*>(into) = load_raw(from);
      else
        *into = *from;
      continue;
    }
    const bool of_k = slot >= turning;
    const Index j = (of_k ? slot - turning : slot) * kWide;
    const std::int64_t angle = (a.first_position + inside) * static_cast<std::int64_t>(half) + j;
    T* const x = q + (of_k ? d : 0) + j;
    float c[kWide], s[kWide];
    load_angles(a.cos + angle, c);
    load_angles(a.sin + angle, s);
    if constexpr (kWide > 1) {
      float low[kWide], high[kWide], u[kWide], v[kWide];
      load(x, low);
      load(x + half, high);
#pragma unroll
      for (int e = 0; e < kWide; ++e) {
        u[e] = low[e] * c[e] - high[e] * s[e];
        v[e] = high[e] * c[e] + low[e] * s[e];
      }
      store(x, u);
      store(x + half, v);
      if (of_k) {
        store(a.keys + to + j, u);
        store(a.keys + to + j + half, v);
      }
    } else {
      const float low = to_float(*x), high = to_float(x[half]);
      const T u = from_float<T>(low * c[0] - high * s[0]);
      const T v = from_float<T>(high * c[0] + low * s[0]);
      *x = u;
      x[half] = v;
      if (of_k) {
        a.keys[to + j] = u;
        a.keys[to + j + half] = v;
      }
    }
  }
}

template <typename T, int kWide>
void launch(const CacheRows<T>& a, cudaStream_t stream) {
  const std::int64_t items =
      a.windows * a.length * a.heads * 2 * a.head_size / kWide;  // slots: at most so many
  if (items < std::int64_t{1} << 31)  // the last step past the end fits as well
    cache<T, kWide, std::uint32_t><<<grid_blocks(items), kBlockThreads, 0, stream>>>(a);
  else
    cache<T, kWide, std::int64_t><<<grid_blocks(items), kBlockThreads, 0, stream>>>(a);
}

}  // namespace

template <typename T>
void cache_rows(const Queue& queue, const CacheRows<T>& a) {
  if (a.windows <= 0 || a.length <= 0 || a.heads <= 0) return;
  constexpr std::int64_t kVector = kLanes<T>;
  const bool vectors = a.head_size % kVector == 0 && a.rotary / 2 % kVector == 0 &&
                       a.cache_window % kVector == 0 && a.cache_row % kVector == 0 &&
                       vector_aligned(a.qkv, a.keys, a.values) && vector_aligned(a.cos, a.sin);
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  if (vectors)
    launch<T, kLanes<T>>(a, stream);
  else
    launch<T, 1>(a, stream);
  check_launch("cache_rows");
}

template void cache_rows(const Queue&, const CacheRows<float>&);
template void cache_rows(const Queue&, const CacheRows<bf16>&);

}  // namespace tessera::kernels::cuda
