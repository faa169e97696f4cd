// Tiles of rows of one head in shared memory, and the two products that attention makes of them.
//
// A row's 16-byte chunks are permuted by the row's number, so that eight rows' same chunk, and one
// row's chunks, lie in different banks: copies, matrix loads (plain and transposed) and the final
// stores are free of conflicts at every head size. Warps own 16 kTiles rows of the stationary
// operand; each fragment of the streamed one serves kTiles products.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/flash_primitives.cuh"
#include "kernels/dtype.h"

namespace tessera::kernels::cuda {

// The largest power of two, at most 8, that divides n.
constexpr int power_of_two_in(int n) {
  return n % 8 == 0 ? 8 : n % 4 == 0 ? 4 : n % 2 == 0 ? 2 : 1;
}

template <int kHead>
struct Tile {
  static constexpr int kChunks = kHead / 8;
  static constexpr int kRowBytes = 2 * kHead;
  static constexpr int kPeriod = power_of_two_in(kChunks);  // chunks that change places
  static_assert(kHead % 16 == 0);

  __device__ static std::uint32_t offset(int row, int chunk) {
    return row * kRowBytes + ((chunk ^ ((row / (8 / kPeriod)) & (kPeriod - 1))) << 4);
  }
};

// Where this lane's row of a 16 x 16 part lies: rows lane % 16, first or second chunk. Parts differ
// by constants, but for kPeriod / 2 kinds of chunk pairs.
template <int kHead>
struct LaneOffsets {
  static constexpr int kKinds = Tile<kHead>::kPeriod / 2;
  std::uint32_t kind[kKinds];

  __device__ explicit LaneOffsets(int lane) {
#pragma unroll
    for (int i = 0; i < kKinds; ++i) kind[i] = Tile<kHead>::offset(lane % 16, 2 * i + lane / 16);
  }
  // Of rows 16 `row16` and on, chunks 2 `pair` and 2 `pair` + 1.
  __device__ std::uint32_t at(std::uint32_t tile, int row16, int pair) const {
    return tile + kind[pair % kKinds] + row16 * 16 * Tile<kHead>::kRowBytes +
           (pair / kKinds) * Tile<kHead>::kPeriod * 16;
  }
};

// Starts copying rows [0, kRows) of `from` (`stride` elements apart); rows from `valid` on are
// zeros.
template <int kHead, int kRows, int kThreads>
__device__ __forceinline__ void load_tile(int thread, std::uint32_t tile, const bf16* from,
                                          std::int64_t stride, int valid) {
  constexpr int kChunks = Tile<kHead>::kChunks, kTotal = kRows * kChunks;
  if constexpr (kThreads % kChunks == 0) {
    constexpr int kStep = kThreads / kChunks;
    static_assert(kRows % kStep == 0);
    const int first = thread / kChunks, chunk = thread % kChunks;
    const bf16* p = from + first * stride + chunk * 8;
#pragma unroll
    for (int row = 0; row < kRows; row += kStep, p += kStep * stride)
      copy_async(tile + Tile<kHead>::offset(first + row, chunk), p, first + row < valid);
  } else {
#pragma unroll
    for (int i = 0; i < (kTotal + kThreads - 1) / kThreads; ++i) {
      const int item = i * kThreads + thread, row = item / kChunks, chunk = item % kChunks;
      if (kTotal % kThreads == 0 || item < kTotal)
        copy_async(tile + Tile<kHead>::offset(row, chunk), from + row * stride + chunk * 8,
                   row < valid);
    }
  }
}

// A warp's rows of the stationary operand: fragments held in registers, or loaded at each use.
template <int kHead, int kTiles, bool kHold>
struct WarpRows;

template <int kHead, int kTiles>
struct WarpRows<kHead, kTiles, true> {
  std::uint32_t held[kHead / 16][kTiles][4];

  // The tile's copies have arrived; rows of this warp start at `tile`.
  __device__ void load(std::uint32_t tile, const LaneOffsets<kHead>& lanes) {
#pragma unroll
    for (int k = 0; k < kHead / 16; ++k)
#pragma unroll
      for (int m = 0; m < kTiles; ++m) load_matrices(held[k][m], lanes.at(tile, m, k));
  }
  __device__ void get(int k, const LaneOffsets<kHead>&, std::uint32_t (&a)[kTiles][4]) const {
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) a[m][i] = held[k][m][i];
  }
};

template <int kHead, int kTiles>
struct WarpRows<kHead, kTiles, false> {
  std::uint32_t rows;

  __device__ void load(std::uint32_t tile, const LaneOffsets<kHead>&) { rows = tile; }
  __device__ void get(int k, const LaneOffsets<kHead>& lanes, std::uint32_t (&a)[kTiles][4]) const {
#pragma unroll
    for (int m = 0; m < kTiles; ++m) load_matrices(a[m], lanes.at(rows, m, k));
  }
};

template <int kTiles, int kColumns>
using Accumulator = float[kTiles][kColumns / 8][4];

template <int kTiles, int kN>
__device__ __forceinline__ void clear(float (&c)[kTiles][kN][4]) {
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) c[m][n][e] = 0;
}

// c[., n] = sum over the head of the warp's rows times row n of the tile `b`.
template <int kHead, int kTiles, int kN, bool kHold>
__device__ __forceinline__ void row_products(float (&c)[kTiles][kN][4],
                                             const WarpRows<kHead, kTiles, kHold>& rows,
                                             std::uint32_t b, const LaneOffsets<kHead>& lanes) {
  clear(c);
#pragma unroll
  for (int k = 0; k < kHead / 16; ++k) {
    std::uint32_t a[kTiles][4];
    rows.get(k, lanes, a);
#pragma unroll
    for (int n = 0; n < kN / 2; ++n) {
      std::uint32_t f[4];
      load_matrices(f, lanes.at(b, n, k));
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        multiply_add(c[m][2 * n], a[m], f[0], f[2]);
        multiply_add(c[m][2 * n + 1], a[m], f[1], f[3]);
      }
    }
  }
}

// c += a times rows 16 `row16` .. 16 `row16` + 15 of the tile `b`, of which kN * 8 columns.
template <int kHead, int kTiles, int kN>
__device__ __forceinline__ void add_product(float (&c)[kTiles][kN][4],
                                            const std::uint32_t (&a)[kTiles][4], std::uint32_t b,
                                            int row16, const LaneOffsets<kHead>& lanes) {
#pragma unroll
  for (int n = 0; n < kN / 2; ++n) {
    std::uint32_t f[4];
    load_transposed(f, lanes.at(b, row16, n));
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      multiply_add(c[m][2 * n], a[m], f[0], f[1]);
      multiply_add(c[m][2 * n + 1], a[m], f[2], f[3]);
    }
  }
}

// Columns 16 k .. 16 k + 15 of an accumulator as the left operand of a product.
template <int kTiles, int kN>
__device__ __forceinline__ void to_fragment(std::uint32_t (&a)[kTiles][4],
                                            const float (&c)[kTiles][kN][4], int k) {
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&x)[4] = c[m][2 * k + i / 2];
      a[m][i] = pack_bf16(x[i % 2 * 2], x[i % 2 * 2 + 1]);
    }
}

// Scores, rows from first_row and columns from first_column on, vanish where the column is after
// the row; before it.
template <int kTiles, int kN>
__device__ __forceinline__ void mask_after(float (&s)[kTiles][kN][4], int first_row,
                                           int first_column, int lane) {
  const int distance = first_row - first_column + lane / 4 - 2 * (lane % 4);
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (8 * n + e % 2 - 16 * m - 8 * (e / 2) > distance) s[m][n][e] = -INFINITY;
}
template <int kTiles, int kN>
__device__ __forceinline__ void mask_before(float (&s)[kTiles][kN][4], int first_row,
                                            int first_column, int lane) {
  const int distance = first_row - first_column + lane / 4 - 2 * (lane % 4);
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (8 * n + e % 2 - 16 * m - 8 * (e / 2) < distance) s[m][n][e] = -INFINITY;
}

// Writes factor[m][row half] * c as rows [0, valid) of `to` in 16-byte stores, through `tile`: rows
// of shared memory that this warp alone has read.
template <int kHead, int kTiles, int kN>
__device__ __forceinline__ void store_rows(int lane, const float (&c)[kTiles][kN][4],
                                           const float (&factor)[kTiles][2], std::uint32_t tile,
                                           bf16* to, std::int64_t stride, int valid) {
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = 16 * m + 8 * half + lane / 4;
        store_shared(tile + Tile<kHead>::offset(row, n) + 4 * (lane % 4),
                     pack_bf16(c[m][n][2 * half] * factor[m][half],
                               c[m][n][2 * half + 1] * factor[m][half]));
      }
  __syncwarp();
  static_assert(16 * kN % 32 == 0);
#pragma unroll
  for (int i = 0; i < 16 * kTiles * kN / 32; ++i) {
    const int item = 32 * i + lane, row = item / kN, chunk = item % kN;
    const uint4 v = load_shared_vector(tile + Tile<kHead>::offset(row, chunk));
    if (row < valid) *reinterpret_cast<uint4*>(to + row * stride + chunk * 8) = v;
  }
}

}  // namespace tessera::kernels::cuda
