// Exact GELU at memory speed. For bf16 the normal distribution function comes from Abramowitz and
// Stegun 7.1.26 (absolute error 1.5e-7, far below bf16's rounding), whose exponential is also the
// density that the backward needs; for float from CUDA's own erfcf and expf.
#include "kernels/cuda/column_blocks.cuh"
#include "kernels/gelu.h"

namespace tessera::kernels::cuda {
namespace {

constexpr float kDensity = 0.3989422804014327f;  // 1 / sqrt(2 pi)

// Phi(x), and exp(-x^2 / 2) in `bell`.
template <typename T>
__device__ __forceinline__ float normal_cdf(float x, float& bell) {
  if constexpr (std::is_same_v<T, bf16>) {
    const float z = fabsf(x) * 0.7071067811865475f;
    const float t = __fdividef(1.0f, fmaf(0.3275911f, z, 1.0f));
    bell = __expf(-z * z);
    float tail = fmaf(1.061405429f, t, -1.453152027f);
    tail = fmaf(tail, t, 1.421413741f);
    tail = fmaf(tail, t, -0.284496736f);
    tail = fmaf(tail, t, 0.254829592f);
    tail *= 0.5f * t * bell;  // Phi(-|x|)
    return x < 0.0f ? tail : 1.0f - tail;
  } else {
    bell = expf(-0.5f * x * x);
    return 0.5f * erfcf(-0.7071067811865475f * x);
  }
}

template <typename T>
__device__ __forceinline__ float gelu(float x) {
  float bell;
  return x * normal_cdf<T>(x, bell);
}
template <typename T>
__device__ __forceinline__ float gelu_slope(float x) {
  float bell;
  const float cdf = normal_cdf<T>(x, bell);
  return fmaf(x * kDensity, bell, cdf);
}

template <typename T>
__global__ void forward(std::int64_t vectors, std::int64_t count, const T* x, T* y) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
#pragma unroll 4
  for (std::int64_t i = first; i < vectors; i += step) {
    float v[kLanes<T>];
    load(x + i * kLanes<T>, v);
#pragma unroll
    for (float& e : v) e = gelu<T>(e);
    store(y + i * kLanes<T>, v);
  }
  for (std::int64_t i = vectors * kLanes<T> + first; i < count; i += step)
    y[i] = from_float<T>(gelu<T>(to_float(x[i])));
}

template <typename T, int lanes>
__global__ void backward(std::int64_t rows, std::int64_t width, const T* x, const T* dy, T* dx,
                         float* __restrict__ partial) {
  visit_columns<lanes>(rows, width, partial, [&](std::int64_t r, std::int64_t c, float* sums) {
    const std::int64_t at = r * width + c;
    if constexpr (lanes == 1) {
      const float d = to_float(dy[at]) * gelu_slope<T>(to_float(x[at]));
      sums[0] += d;
      dx[at] = from_float<T>(d);
    } else {
      float v[lanes], d[lanes];
      load(x + at, v);
      load(dy + at, d);
#pragma unroll
      for (int i = 0; i < lanes; ++i) {
        d[i] *= gelu_slope<T>(v[i]);
        sums[i] += d[i];
      }
      store(dx + at, d);
    }
  });
}

}  // namespace

template <typename T>
void gelu_forward(const Queue& queue, const GeluForward<T>& a) {
  if (a.count <= 0) return;
  const std::int64_t vectors = vector_aligned(a.x, a.y) ? a.count / kLanes<T> : 0;
  forward<<<grid_blocks(vectors > 0 ? vectors : a.count), kBlockThreads, 0,
            static_cast<cudaStream_t>(queue.stream)>>>(vectors, a.count, a.x, a.y);
  check_launch("gelu_forward");
}

template <typename T>
void gelu_backward(const Queue& queue, const GeluBackward<T>& a) {
  if (a.rows <= 0 || a.width <= 0) return;
  const bool vectors = a.width % kLanes<T> == 0 && vector_aligned(a.x, a.dy, a.dx);
  const ColumnBlocks cut(a.rows, a.width, vectors ? kLanes<T> : 1);
  auto* partial = a.dbias ? reinterpret_cast<float*>(queue.workspace) : nullptr;
  TESSERA_CHECK(!partial || cut.partial_bytes() <= queue.workspace_bytes);
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  if (vectors)
    backward<T, kLanes<T>>
        <<<cut.grid, cut.block, 0, stream>>>(a.rows, a.width, a.x, a.dy, a.dx, partial);
  else
    backward<T, 1><<<cut.grid, cut.block, 0, stream>>>(a.rows, a.width, a.x, a.dy, a.dx, partial);
  check_launch("gelu_backward");
  ColumnOutputs outputs;
  outputs.add(a.dbias, 0);
  launch_finish_columns(partial, cut.slabs, 1, a.width, outputs, stream);
}

template void gelu_forward(const Queue&, const GeluForward<float>&);
template void gelu_forward(const Queue&, const GeluForward<bf16>&);
template void gelu_backward(const Queue&, const GeluBackward<float>&);
template void gelu_backward(const Queue&, const GeluBackward<bf16>&);

}  // namespace tessera::kernels::cuda
