// What the Hopper attention kernels share: the shape of a block, strides, and moving accumulators
// to memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/wgmma.cuh"

namespace tessera::kernels::cuda {

inline constexpr int kHead = 64;   // head size
inline constexpr int kGroups = 3;  // warpgroups of a block
inline constexpr int kHopperThreads = kGroups * 128;
inline constexpr int kRows = 64;  // of a tile and of a warpgroup
inline constexpr int kBlockRows = kGroups * kRows;
inline constexpr int kTileBytes = kRows * kTileRowBytes;
inline constexpr float kHopperScale = 0.125f;  // head size ^ -1/2
inline constexpr float kLog2E = 1.4426950408889634f;

// This device is a Hopper, the program has its machine code for `kernel`, and the kernel may use
// `shared_bytes` of dynamic shared memory.
bool hopper_kernel_ready(const void* kernel, int shared_bytes);

#ifdef TESSERA_WGMMA

// Shared memory from the first multiple of 1024 bytes on.
__device__ __forceinline__ char* aligned_shared() {
  extern __shared__ char raw[];
  return raw + ((1024 - (shared_address(raw) & 1023)) & 1023);
}

// Rows of an accumulator times `scale`, as bf16, to memory.
__device__ __forceinline__ void store(const float (&d)[32], float scale, __nv_bfloat16* to,
                                      std::int64_t stride, int valid) {
  const int lane = static_cast<int>(threadIdx.x) % 32,
            warp = static_cast<int>(threadIdx.x) / 32 % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = 16 * warp + lane / 4 + 8 * i;
    if (row >= valid) continue;
    __nv_bfloat16* out = to + row * stride + 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      *reinterpret_cast<std::uint32_t*>(out + 8 * j) =
          pack_bf16(d[4 * j + 2 * i] * scale, d[4 * j + 2 * i + 1] * scale);
  }
}

#endif

}  // namespace tessera::kernels::cuda
