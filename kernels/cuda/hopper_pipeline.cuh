// The stream of tiles through a Hopper attention block: two tiles and some statistics a stage,
// started by one thread on the copy engine and released warp by warp.
#pragma once

#include "kernels/cuda/hopper_attention.cuh"
#include "kernels/cuda/tma.cuh"

namespace tessera::kernels::cuda {

inline constexpr int kStages = 4, kAhead = 2;  // loads run kAhead tiles ahead
inline constexpr int kStageBytes = 2 * kTileBytes;
inline constexpr int kStatistics = 2 * kRows;  // floats a tile: lse in powers of two, then D
inline constexpr int kStatisticsBytes = kStatistics * 4;

#ifdef TESSERA_WGMMA

// The block's pipeline: thread 0 starts copies, warps say when they are done with a stage.
struct Pipeline {
  std::uint32_t resident, full, empty;  // barriers: one, kStages, kStages
  std::uint32_t stages, statistics;     // memory

  __device__ __forceinline__ void start(std::uint32_t barriers) {
    resident = barriers;
    full = barriers + 8;
    empty = full + 8 * kStages;
    if (threadIdx.x == 0) {
      barrier_init(resident, 1);
      for (int s = 0; s < kStages; ++s) {
        barrier_init(full + 8 * s, 1);
        barrier_init(empty + 8 * s, kHopperThreads / 32);
      }
      barriers_ready();
    }
    __syncthreads();
  }
  // Thread 0: copies tile number n of the block; `first` and `second` are started by the caller.
  template <typename Copies>
  __device__ __forceinline__ void load(int n, int bytes, Copies copies) const {
    const int stage = n % kStages;
    if (n >= kStages) barrier_wait(empty + 8 * stage, (n / kStages - 1) % 2);
    barrier_expect(full + 8 * stage, bytes);
    copies(stages + stage * kStageBytes, statistics + stage * kStatisticsBytes, full + 8 * stage);
  }
  __device__ __forceinline__ void wait(int n) const {
    barrier_wait(full + 8 * (n % kStages), n / kStages % 2);
  }
  __device__ __forceinline__ void release(int n) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(empty + 8 * (n % kStages));
  }
};

__device__ __forceinline__ float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
}

#endif

}  // namespace tessera::kernels::cuda
