// What the two kernels of the Hopper attention backward share: their argument and the way back
// through the rotation.
#pragma once

#include "kernels/cuda/hopper_pipeline.cuh"

namespace tessera::kernels::cuda {

inline constexpr int kTurnedRotary = 16;

struct HopperBackward {
  CUtensorMap qkv, dout;    // boxes of kRows
  const float* statistics;  // [windows * heads, tiles, kStatistics]
  const float *cos, *sin;   // [length, kTurnedRotary / 2]
  __nv_bfloat16* dqkv;
  float* bias_parts;  // [windows * tiles, heads, 3, kHead] sums of a tile's rows, or null
  int length, heads;
};

inline constexpr int kResidentBytes =
    2 * kBlockRows * kTileRowBytes;  // the block's own two operands
inline constexpr int kSharedBytes =
    kResidentBytes + kStages * (kStageBytes + kStatisticsBytes) + 1024;  // 1024: alignment

#ifdef TESSERA_WGMMA

// Gradients of rotated rows back to before the rotation: components c and c + 8, which one thread
// holds as column groups 0 and 1. `first`: the position of the warpgroup's row 0.
__device__ __forceinline__ void turn_back(float (&d)[32], const HopperBackward& problem,
                                          int first) {
  if (!problem.cos) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = min(first + 16 * warp + lane / 4 + 8 * i, problem.length - 1);
    const int at = row * (kTurnedRotary / 2) + 2 * (lane % 4);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float c = problem.cos[at + e], s = problem.sin[at + e];
      const float low = d[2 * i + e], high = d[4 + 2 * i + e];
      d[2 * i + e] = low * c + high * s;
      d[4 + 2 * i + e] = high * c - low * s;
    }
  }
}

// Sums over the rows that exist of a warpgroup's tile, to bias_parts. `area`: 1 KiB of shared
// memory that only this warpgroup uses. part: 0, 1, 2 for q, k, v.
__device__ __forceinline__ void sum_rows(const float (&d)[32], float scale,
                                         const HopperBackward& problem, int pair, int tile,
                                         int part, float* area) {
  if (!problem.bias_parts) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const int group = static_cast<int>(threadIdx.x) / 128,
            thread = static_cast<int>(threadIdx.x) % 128;
  const int row = tile * kRows + 16 * warp + lane / 4;
  const bool first = row < problem.length, second = row + 8 < problem.length;
#pragma unroll
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      float sum = (first ? d[4 * j + e] : 0.0f) + (second ? d[4 * j + 2 + e] : 0.0f);
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      if (lane < 4) area[warp * kHead + 8 * j + 2 * lane + e] = sum;
    }
  asm volatile("bar.sync %0, 128;\n" ::"r"(group + 1) : "memory");
  if (thread < kHead) {
    const int tiles = (problem.length + kRows - 1) / kRows, heads = problem.heads;
    const std::int64_t at =
        ((static_cast<std::int64_t>(pair / heads) * tiles + tile) * heads + pair % heads) * 3 +
        part;
    problem.bias_parts[at * kHead + thread] =
        scale * ((area[thread] + area[kHead + thread]) +
                 (area[2 * kHead + thread] + area[3 * kHead + thread]));
  }
  asm volatile("bar.sync %0, 128;\n" ::"r"(group + 1) : "memory");
}

#endif

// Launches; ready: the kernel is in this program for the current device.
bool hopper_by_keys_ready();
bool hopper_by_queries_ready();
void hopper_by_keys(const HopperBackward& problem, dim3 grid, cudaStream_t stream);
void hopper_by_queries(const HopperBackward& problem, dim3 grid, cudaStream_t stream);

}  // namespace tessera::kernels::cuda
