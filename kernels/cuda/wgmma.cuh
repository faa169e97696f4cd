// Hopper's warpgroup matrix products (PTX ISA 9.7.15, wgmma) on bf16 tiles that are 64 columns wide
// and lie in shared memory with the 128-byte swizzle; accumulators m64n64 in float.
//
// A tile is rows of 64 bf16 (128 bytes), its base a multiple of 1024 bytes; the 16-byte chunk c of
// row r lies at chunk c ^ (r % 8). Two views of the same bytes:
//   along():  rows are M or N, the 64 columns are K          (no transposition)
//   across(): rows are K, the 64 columns are N               (transposed B)
// An accumulator d[32] of a warpgroup's thread: warp w, lane l hold, for j = 0 .. 7 and i = 0, 1,
// row 16 w + l / 4 + 8 i, columns 8 j + 2 (l % 4) + {0, 1} in d[4 j + 2 i + {0, 1}]; four
// neighbouring quadruples packed to bf16 are the A fragment of 16 K columns.
//
// Only code for sm_90a can hold these instructions: kernels test TESSERA_WGMMA.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define TESSERA_WGMMA 1
#endif

namespace tessera::kernels::cuda {

inline constexpr int kTileColumns = 64;
inline constexpr int kTileRowBytes = 128;

#ifdef TESSERA_WGMMA

__device__ __forceinline__ std::uint64_t tile_descriptor(std::uint32_t shared_address) {
  // Start address, leading offset (unused at 64 columns), stride of 8 rows, 128-byte swizzle.
  return static_cast<std::uint64_t>((shared_address & 0x3ffff) >> 4) | (std::uint64_t{1} << 16) |
         (std::uint64_t{1024 >> 4} << 32) | (std::uint64_t{1} << 62);
}

// Step k of 16 along the columns, or of 16 rows across.
__device__ __forceinline__ std::uint64_t along(std::uint32_t tile, int k) {
  return tile_descriptor(tile + static_cast<std::uint32_t>(k) * 32);
}
__device__ __forceinline__ std::uint64_t across(std::uint32_t tile, int k) {
  return tile_descriptor(tile + static_cast<std::uint32_t>(k) * 16 * kTileRowBytes);
}

// d = or += A B^T, both tiles seen along their columns, one step of K.
__device__ __forceinline__ void product_step(float (&d)[32], std::uint64_t a, std::uint64_t b,
                                             bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
      "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;\n}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
        "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
        "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

// d += A B, A a fragment in registers, B a tile seen across its rows, one step of K.
__device__ __forceinline__ void fragment_step(float (&d)[32], const std::uint32_t* a,
                                              std::uint64_t b) {
  asm volatile(
      "{\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
      "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, 1, "
      "1, 1, 1;\n}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
        "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
        "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// Before the first product of a batch: registers and earlier products are in order.
__device__ __forceinline__ void products_begin() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
// Until at most `pending` committed batches are still running.
template <int pending>
__device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(pending) : "memory");
}

// d = A B^T over all 64 columns.
__device__ __forceinline__ void product(float (&d)[32], std::uint32_t a, std::uint32_t b) {
#pragma unroll
  for (int k = 0; k < 4; ++k) product_step(d, along(a, k), along(b, k), k > 0);
}
// d += A B over B's 64 rows; a: 16 registers.
__device__ __forceinline__ void fragment_product(float (&d)[32], const std::uint32_t (&a)[16],
                                                 std::uint32_t b) {
#pragma unroll
  for (int k = 0; k < 4; ++k) fragment_step(d, a + 4 * k, across(b, k));
}

// The compiler may not move uses of d over this: what products write is not visible to it.
__device__ __forceinline__ void settle(float (&d)[32]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// The accumulator as A fragments of four steps of K.
__device__ __forceinline__ void to_fragments(const float (&d)[32], std::uint32_t (&a)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) a[i] = pack_bf16(d[2 * i], d[2 * i + 1]);
}

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// Copies rows [0, rows) of 64 bf16, `stride` elements apart, into a tile; rows from `valid` on
// become zero. Asynchronous: copies_commit, copies_wait, publish_copies.
template <int threads>
__device__ __forceinline__ void load_tile(std::uint32_t tile, const __nv_bfloat16* from,
                                          std::int64_t stride, int rows, int valid) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * 8; i += threads) {
    const int r = i / 8, c = i % 8;
    const bool inside = r < valid;
    const __nv_bfloat16* source = from + (inside ? r * stride + c * 8 : 0);
    const std::uint32_t to =
        tile + static_cast<std::uint32_t>(r * kTileRowBytes + ((c ^ (r & 7)) << 4));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(source),
                 "r"(inside ? 16 : 0));
  }
}
__device__ __forceinline__ void copies_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int pending>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(pending) : "memory");
}
// Makes this thread's copies visible to the tensor cores; a barrier follows.
__device__ __forceinline__ void publish_copies() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

#endif

}  // namespace tessera::kernels::cuda
