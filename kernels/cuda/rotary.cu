// Rotary positions in place: only the rotated components of q and k are touched, eight pairs of
// them a thread where that many lie side by side.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/rotary.h"

namespace tessera::kernels::cuda {
namespace {

template <typename T, int pairs>
__global__ void rotate(const Rotary<T> a) {
  const std::int64_t half = a.rotary / 2, parts = half / pairs;
  const std::int64_t total = a.rows * a.heads * 2 * parts;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const std::int64_t part = i % parts, which = i / parts % 2, head = i / (2 * parts);
    const std::int64_t row = head / a.heads;
    const std::int64_t position =
        a.positions ? a.positions[row] : a.first_position + row % a.length;
    T* low = a.qkv + (head * 3 + which) * a.head_size + part * pairs;
    T* high = low + half;
    const float* cos = a.cos + position * half + part * pairs;
    const float* sin = a.sin + position * half + part * pairs;
    const float sign = a.backward ? -1.0f : 1.0f;
    if constexpr (pairs == 1) {
      const float x = to_float(*low), y = to_float(*high), s = sign * *sin;
      *low = from_float<T>(x * *cos - y * s);
      *high = from_float<T>(y * *cos + x * s);
    } else {
      float x[pairs], y[pairs], u[pairs], v[pairs];
      load(low, x);
      load(high, y);
#pragma unroll
      for (int j = 0; j < pairs; ++j) {
        const float c = cos[j], s = sign * sin[j];
        u[j] = x[j] * c - y[j] * s;
        v[j] = y[j] * c + x[j] * s;
      }
      store(low, u);
      store(high, v);
    }
  }
}

}  // namespace

template <typename T>
void rotary(const Queue& queue, const Rotary<T>& a) {
  const std::int64_t half = a.rotary / 2;
  if (a.rows * a.heads * half <= 0) return;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  constexpr int kPairs = kLanes<T>;
  if (half % kPairs == 0 && a.head_size % kPairs == 0 && vector_aligned(a.qkv))
    rotate<T, kPairs>
        <<<grid_blocks(a.rows * a.heads * 2 * half / kPairs), kBlockThreads, 0, stream>>>(a);
  else
    rotate<T, 1><<<grid_blocks(a.rows * a.heads * 2 * half), kBlockThreads, 0, stream>>>(a);
  check_launch("rotary");
}

template void rotary(const Queue&, const Rotary<float>&);
template void rotary(const Queue&, const Rotary<bf16>&);

}  // namespace tessera::kernels::cuda
