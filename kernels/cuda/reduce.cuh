// Sums over a warp and a block, and over the partial column sums that blocks leave in the
// workspace. Every order is fixed.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/launch.cuh"

namespace tessera::kernels::cuda {

template <int width = 32, typename V>
__device__ __forceinline__ V warp_sum(V value) {
#pragma unroll
  for (int offset = width / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// All threads get the sum; `scratch` holds 32 values and may be reused after the next barrier.
template <typename V>
__device__ __forceinline__ V block_sum(V value, V* scratch) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  value = warp_sum(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  V total = 0;
  for (int i = 0; i < (static_cast<int>(blockDim.x) + 31) / 32; ++i) total += scratch[i];
  return total;
}

// Where quantity q of partial[part][q][columns] is added.
struct ColumnOutputs {
  static constexpr int kMost = 6;
  float* to[kMost] = {};
  int quantity[kMost] = {};
  int count = 0;

  void add(float* where, int which) {
    if (!where) return;
    to[count] = where;
    quantity[count++] = which;
  }
};

inline constexpr int kFinishSlices = 16;

// to[c] += sum over parts, in order within each of kFinishSlices slices, then the slices in order.
template <typename = void>
__global__ void finish_columns(const float* __restrict__ partial, int parts, int quantities,
                               std::int64_t columns, const ColumnOutputs outputs) {
  __shared__ float sums[kFinishSlices][33];
  const std::int64_t column =
      static_cast<std::int64_t>(blockIdx.x) * 32 + static_cast<std::int64_t>(threadIdx.x);
  const int slice = static_cast<int>(threadIdx.y), output = static_cast<int>(blockIdx.y);
  const int begin = parts * slice / kFinishSlices, end = parts * (slice + 1) / kFinishSlices;
  float sum = 0.0f;
  if (column < columns) {
    const float* from = partial + outputs.quantity[output] * columns + column;
#pragma unroll 8
    for (int p = begin; p < end; ++p)
      sum += from[static_cast<std::int64_t>(p) * quantities * columns];
  }
  sums[slice][threadIdx.x] = sum;
  __syncthreads();
  if (slice != 0 || column >= columns) return;
  float total = 0.0f;
#pragma unroll
  for (int s = 0; s < kFinishSlices; ++s) total += sums[s][threadIdx.x];
  outputs.to[output][column] += total;
}

inline void launch_finish_columns(const float* partial, int parts, int quantities,
                                  std::int64_t columns, const ColumnOutputs& outputs,
                                  cudaStream_t stream) {
  if (outputs.count == 0) return;
  const dim3 grid(static_cast<unsigned>((columns + 31) / 32), static_cast<unsigned>(outputs.count));
  finish_columns<<<grid, dim3(32, kFinishSlices), 0, stream>>>(partial, parts, quantities, columns,
                                                               outputs);
  check_launch("finish_columns");
}

}  // namespace tessera::kernels::cuda
