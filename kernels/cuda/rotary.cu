// Rotary positions in place: only the rotated components of q and k are touched, eight pairs of
// them a thread where that many lie side by side.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/rotary.h"

namespace tessera::kernels::cuda {
namespace {

// `pairs` floats of a table, sixteen bytes at a time.
template <int pairs>
__device__ __forceinline__ void load_table(const float* from, float (&x)[pairs]) {
#pragma unroll
  for (int j = 0; j < pairs; j += 4) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(from + j));
    x[j] = v.x, x[j + 1] = v.y, x[j + 2] = v.z, x[j + 3] = v.w;
  }
}

// Index: 32 bits wherever they hold all items, because every item is found by divisions.
template <typename T, int pairs, typename Index>
__global__ void rotate(const Rotary<T> a) {
  const auto half = static_cast<Index>(a.rotary / 2), parts = half / pairs;
  const auto heads = static_cast<Index>(a.heads), length = static_cast<Index>(a.length);
  const Index total = static_cast<Index>(a.rows) * heads * 2 * parts;
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  const float sign = a.backward ? -1.0f : 1.0f;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const Index vector = i / parts, part = i - vector * parts;  // vector: q or k of a head
    const Index head = vector / 2, row = head / heads;
    const std::int64_t position =
        a.positions ? a.positions[row] : a.first_position + static_cast<std::int64_t>(row % length);
    T* low = a.qkv + (static_cast<std::int64_t>(head) * 3 + vector % 2) * a.head_size +
             static_cast<std::int64_t>(part) * pairs;
    T* high = low + half;
    const std::int64_t angle = position * half + static_cast<std::int64_t>(part) * pairs;
    if constexpr (pairs == 1) {
      const float x = to_float(*low), y = to_float(*high), s = sign * a.sin[angle];
      *low = from_float<T>(x * a.cos[angle] - y * s);
      *high = from_float<T>(y * a.cos[angle] + x * s);
    } else {
      float x[pairs], y[pairs], c[pairs], s[pairs], u[pairs], v[pairs];
      load(low, x);
      load(high, y);
      load_table(a.cos + angle, c);
      load_table(a.sin + angle, s);
#pragma unroll
      for (int j = 0; j < pairs; ++j) {
        u[j] = x[j] * c[j] - y[j] * (sign * s[j]);
        v[j] = y[j] * c[j] + x[j] * (sign * s[j]);
      }
      store(low, u);
      store(high, v);
    }
  }
}

template <typename T, int pairs>
void launch(const Rotary<T>& a, cudaStream_t stream) {
  const std::int64_t items = a.rows * a.heads * 2 * (a.rotary / 2 / pairs);
  if (items < std::int64_t{1} << 31)  // the last step past the end fits as well
    rotate<T, pairs, std::uint32_t><<<grid_blocks(items), kBlockThreads, 0, stream>>>(a);
  else
    rotate<T, pairs, std::int64_t><<<grid_blocks(items), kBlockThreads, 0, stream>>>(a);
}

}  // namespace

template <typename T>
void rotary(const Queue& queue, const Rotary<T>& a) {
  const std::int64_t half = a.rotary / 2;
  if (a.rows * a.heads * half <= 0) return;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  constexpr int kPairs = kLanes<T>;
  if (half % kPairs == 0 && a.head_size % kPairs == 0 && vector_aligned(a.qkv) &&
      vector_aligned(a.cos, a.sin))
    launch<T, kPairs>(a, stream);
  else
    launch<T, 1>(a, stream);
  check_launch("rotary");
}

template void rotary(const Queue&, const Rotary<float>&);
template void rotary(const Queue&, const Rotary<bf16>&);

}  // namespace tessera::kernels::cuda
