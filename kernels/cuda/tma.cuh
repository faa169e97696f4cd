// Hopper's tensor memory accelerator and the barriers that its copies complete on.
//
// Device: one thread starts a copy of a box into shared memory; everybody waits for its barrier.
// Host: describes a matrix of 64-column bf16 tiles so that boxes arrive with the 128-byte swizzle
// of wgmma.cuh, rows that do not exist as zeros.
#pragma once

#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace tessera::kernels::cuda {

// bf16 [outer, middle, rows, 64] with strides in elements; boxes of box_rows x 64.
struct TileSource {
  const void* base = nullptr;
  std::int64_t rows = 0, middle = 0, outer = 0;
  std::int64_t row_stride = 0, middle_stride = 0, outer_stride = 0;
};

// Error{device} when the driver refuses. Defined in tma.cu.
CUtensorMap tile_map(const TileSource& source, int box_rows);

#ifdef TESSERA_WGMMA

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals)
               : "memory");
}
// After the inits, before a __syncthreads.
__device__ __forceinline__ void barriers_ready() {
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;\n" ::
                   : "memory");
}
__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
// One arrival that also announces bytes to come.
__device__ __forceinline__ void barrier_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Until the phase of this parity (0 for the first) is complete.
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap* map, int row,
                                         int middle, int outer, std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];\n" ::"r"(to),
      "l"(map), "r"(0), "r"(row), "r"(middle), "r"(outer), "r"(barrier)
      : "memory");
}
// `bytes` and both addresses are multiples of 16.
__device__ __forceinline__ void copy_bytes(std::uint32_t to, const void* from, int bytes,
                                           std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

#endif

}  // namespace tessera::kernels::cuda
