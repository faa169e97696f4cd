// Layer norm forward: a warp a row, the row held in registers between its one read and the one or
// two writes. Rows that do not fit (or are not multiples of sixteen bytes) take a block and three
// reads.
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/layer_norm.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = kBlockThreads / 32;

// `vectors` of each lane cover the row: vector i of lane l is number 32 i + l.
template <typename T, int vectors>
__global__ void __launch_bounds__(kBlockThreads) by_warps(const LayerNormForward<T> a) {
  constexpr int kN = kLanes<T>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kWarps + static_cast<std::int64_t>(threadIdx.x) / 32;
  if (row >= a.rows) return;
  const int width = static_cast<int>(a.width), count = width / kN;
  const T* from = a.x + row * width;
  float x[vectors][kN];
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < vectors; ++i) {
    const int v = 32 * i + lane;
    if (v < count) {
      load(from + v * kN, x[i]);
#pragma unroll
      for (const float e : x[i]) sum += e;
    }
  }
  const float over = 1.0f / static_cast<float>(width);
  const float mean = warp_sum(sum) * over;
  float square = 0.0f;
#pragma unroll
  for (int i = 0; i < vectors; ++i)
    if (32 * i + lane < count)
#pragma unroll
      for (float& e : x[i]) {
        e -= mean;
        square += e * e;
      }
  const float rstd = 1.0f / sqrtf(warp_sum(square) * over + static_cast<float>(a.eps));
#pragma unroll
  for (int i = 0; i < vectors; ++i) {
    const int v = 32 * i + lane;
    if (v >= count) continue;
    float gain[kN], bias[kN], y[kN];
    load(a.gain1 + v * kN, gain);
    load(a.bias1 + v * kN, bias);
#pragma unroll
    for (int e = 0; e < kN; ++e) y[e] = x[i][e] * rstd * gain[e] + bias[e];
    store(a.y1 + row * width + v * kN, y);
    if (!a.y2) continue;
    load(a.gain2 + v * kN, gain);
    load(a.bias2 + v * kN, bias);
#pragma unroll
    for (int e = 0; e < kN; ++e) y[e] = x[i][e] * rstd * gain[e] + bias[e];
    store(a.y2 + row * width + v * kN, y);
  }
  if (lane != 0) return;
  if (a.mean) a.mean[row] = mean;
  if (a.rstd) a.rstd[row] = rstd;
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) by_blocks(const LayerNormForward<T> a) {
  __shared__ float scratch[2][32];
  const std::int64_t row = blockIdx.x;
  const T* x = a.x + row * a.width;
  float sum = 0.0f;
  for (std::int64_t i = threadIdx.x; i < a.width; i += kBlockThreads) sum += to_float(x[i]);
  const float over = 1.0f / static_cast<float>(a.width);
  const float mean = block_sum(sum, scratch[0]) * over;
  float square = 0.0f;
  for (std::int64_t i = threadIdx.x; i < a.width; i += kBlockThreads) {
    const float d = to_float(x[i]) - mean;
    square += d * d;
  }
  const float rstd = 1.0f / sqrtf(block_sum(square, scratch[1]) * over + static_cast<float>(a.eps));
  for (std::int64_t i = threadIdx.x; i < a.width; i += kBlockThreads) {
    const float xhat = (to_float(x[i]) - mean) * rstd;
    a.y1[row * a.width + i] = from_float<T>(xhat * to_float(a.gain1[i]) + to_float(a.bias1[i]));
    if (a.y2)
      a.y2[row * a.width + i] = from_float<T>(xhat * to_float(a.gain2[i]) + to_float(a.bias2[i]));
  }
  if (threadIdx.x != 0) return;
  if (a.mean) a.mean[row] = mean;
  if (a.rstd) a.rstd[row] = rstd;
}

template <typename T, int vectors>
void launch(const LayerNormForward<T>& a, cudaStream_t stream) {
  by_warps<T, vectors>
      <<<static_cast<unsigned>((a.rows + kWarps - 1) / kWarps), kBlockThreads, 0, stream>>>(a);
}

}  // namespace

template <typename T>
void layer_norm_forward(const Queue& queue, const LayerNormForward<T>& a) {
  if (a.rows <= 0 || a.width <= 0) return;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  const std::int64_t a_lane = (a.width / kLanes<T> + 31) / 32;  // vectors
  const bool vectors = a.width % kLanes<T> == 0 &&
                       vector_aligned(a.x, a.y1, a.y2, a.gain1, a.bias1, a.gain2, a.bias2);
  if (!vectors || a_lane > 16)
    by_blocks<<<static_cast<unsigned>(a.rows), kBlockThreads, 0, stream>>>(a);
  else if (a_lane <= 1)
    launch<T, 1>(a, stream);
  else if (a_lane <= 2)
    launch<T, 2>(a, stream);
  else if (a_lane <= 3)
    launch<T, 3>(a, stream);
  else if (a_lane <= 4)
    launch<T, 4>(a, stream);
  else if (a_lane <= 8)
    launch<T, 8>(a, stream);
  else if (sizeof(T) == 4)
    launch<float, 16>(reinterpret_cast<const LayerNormForward<float>&>(a), stream);
  else
    by_blocks<<<static_cast<unsigned>(a.rows), kBlockThreads, 0, stream>>>(a);
  check_launch("layer_norm_forward");
}

template void layer_norm_forward(const Queue&, const LayerNormForward<float>&);
template void layer_norm_forward(const Queue&, const LayerNormForward<bf16>&);

}  // namespace tessera::kernels::cuda
