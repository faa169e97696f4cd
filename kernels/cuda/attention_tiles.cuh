// Tiles of rows in shared memory and their products on the scalar units, for general attention.
//
// 128 threads stand in 8 rows of 16 (half a warp). Of a product with rows of results, thread (row,
// column) keeps rows row + 8 r and columns column + 16 s, or, where the columns are a head's
// components, 64 u + 4 column + 0 .. 3. So a row of results belongs to one half-warp: its sums are
// shuffles, and what a half-warp writes to shared memory for the next product only itself reads.
// Tiles are float whatever the tensors are, zero beyond the tensors. Their rows are 4 floats longer
// than their width, so that 16-byte reads of 8 rows in a column meet all 32 banks once.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/attention.h"

namespace tessera::kernels::cuda {

inline constexpr int kTileThreads = 128, kThreadRows = 8, kThreadColumns = 16;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// Floats from one row of a tile to the next.
template <int kWidth>
inline constexpr int kRowStride = kWidth + 4;

__device__ inline int thread_row() {
  return static_cast<int>(threadIdx.x) / kThreadColumns;
}
__device__ inline int thread_column() {
  return static_cast<int>(threadIdx.x) % kThreadColumns;
}

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
__device__ inline float4 load4(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}
__device__ inline float4 load4(const bf16* p) {
  const uint2 x = *reinterpret_cast<const uint2*>(p);
  return make_float4(__uint_as_float(x.x << 16), __uint_as_float(x.x & 0xffff0000u),
                     __uint_as_float(x.y << 16), __uint_as_float(x.y & 0xffff0000u));
}

__device__ inline void store(float* p, float x) {
  *p = x;
}
__device__ inline void store(bf16* p, float x) {
  p->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
__device__ inline void store4(float* p, float4 x) {
  *reinterpret_cast<float4*>(p) = x;
}
__device__ inline void store4(bf16* p, float4 x) {
  const auto half = [](float value) -> unsigned {
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
  };
  *reinterpret_cast<uint2*>(p) =
      make_uint2(half(x.x) | half(x.y) << 16, half(x.z) | half(x.w) << 16);
}

// Components c .. c + 3 of a row of `size` of them, zero beyond. Whole groups are read whether or
// not they are beyond (the first instead), so that several loads fly at once.
template <bool kVectors, typename T>
__device__ float4 load_row4(const T* row, int c, int size, bool live) {
  live = live && c < size;
  if constexpr (kVectors) {
    const float4 x = load4(row + (c < size ? c : 0));
    return make_float4(live ? x.x : 0.0f, live ? x.y : 0.0f, live ? x.z : 0.0f, live ? x.w : 0.0f);
  } else {
    float x[4] = {};
    for (int i = 0; i < 4; ++i)
      if (live && c + i < size) x[i] = to_float(row[c + i]);
    return make_float4(x[0], x[1], x[2], x[3]);
  }
}

// Sum over the 16 lanes of a half-warp, in every one of them.
__device__ inline float half_warp_sum(float x) {
#pragma unroll
  for (int lane = kThreadColumns / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(kAllLanes, x, lane);
  return x;
}
__device__ inline float half_warp_max(float x) {
#pragma unroll
  for (int lane = kThreadColumns / 2; lane > 0; lane /= 2)
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, lane));
  return x;
}

template <int kRows, int kWidth, bool kVectors, typename T>
__device__ void fill_tile_by(float* tile, const T* from, std::int64_t stride, int rows, int size,
                             const std::uint8_t* keep) {
  constexpr int kGroups = kWidth / 4, kCount = kRows * kGroups / kTileThreads, kFlying = 4;
  static_assert(kRows * kGroups % kTileThreads == 0 && kCount % kFlying == 0);
#pragma unroll 1
  for (int first = 0; first < kCount; first += kFlying) {
    float4 x[kFlying];
#pragma unroll
    for (int i = 0; i < kFlying; ++i) {
      const int at = static_cast<int>(threadIdx.x) + (first + i) * kTileThreads;
      const int row = at / kGroups, c = at % kGroups * 4;
      const int own = min(row, rows - 1);
      const bool live = row < rows && (keep == nullptr || keep[own] != 0);
      x[i] = load_row4<kVectors>(from + own * stride, c, size, live);
    }
#pragma unroll
    for (int i = 0; i < kFlying; ++i) {
      const int at = static_cast<int>(threadIdx.x) + (first + i) * kTileThreads;
      store4(tile + at / kGroups * kRowStride<kWidth> + at % kGroups * 4, x[i]);
    }
  }
}

// Rows 0 .. rows - 1 (at least one; at most kRows are taken) of `size` components; those that
// `keep`, where given, has 0 for become zero, whatever they hold. `vectors`: whole, aligned groups
// of 4 components.
template <int kRows, int kWidth, typename T>
__device__ void fill_tile(float* tile, const T* from, std::int64_t stride, int rows, int size,
                          const std::uint8_t* keep, bool vectors) {
  if (vectors)
    fill_tile_by<kRows, kWidth, true>(tile, from, stride, rows, size, keep);
  else
    fill_tile_by<kRows, kWidth, false>(tile, from, stride, rows, size, keep);
}

// sums[r][s] = a[row + 8 r] . b[column + 16 s], over the first `size` components.
template <int kWidth, int kR, int kS>
__device__ void rows_times_rows(const float* a, const float* b, int size, float (&sums)[kR][kS]) {
  constexpr int kStride = kRowStride<kWidth>;
  const float* own_a = a + thread_row() * kStride;
  const float* own_b = b + thread_column() * kStride;
#pragma unroll
  for (int r = 0; r < kR; ++r)
#pragma unroll
    for (int s = 0; s < kS; ++s) sums[r][s] = 0;
#pragma unroll 1
  for (int c = 0; c < size; c += 4) {
    float4 y[kS];
#pragma unroll
    for (int s = 0; s < kS; ++s) y[s] = load4(own_b + s * kThreadColumns * kStride + c);
#pragma unroll
    for (int r = 0; r < kR; ++r) {
      const float4 x = load4(own_a + r * kThreadRows * kStride + c);
#pragma unroll
      for (int s = 0; s < kS; ++s) {
        sums[r][s] = fmaf(x.x, y[s].x, sums[r][s]);
        sums[r][s] = fmaf(x.y, y[s].y, sums[r][s]);
        sums[r][s] = fmaf(x.z, y[s].z, sums[r][s]);
        sums[r][s] = fmaf(x.w, y[s].w, sums[r][s]);
      }
    }
  }
}

// Writes the results of rows_times_rows as a tile [8 kR, 16 kS], for add_rows_times_tile.
template <int kR, int kS>
__device__ void keep_rows(float* tile, const float (&values)[kR][kS]) {
  constexpr int kStride = kRowStride<kS * kThreadColumns>;
#pragma unroll
  for (int r = 0; r < kR; ++r)
#pragma unroll
    for (int s = 0; s < kS; ++s)
      tile[(thread_row() + r * kThreadRows) * kStride + thread_column() + s * kThreadColumns] =
          values[r][s];
}

// sums[r][4 u + e] += sum over j of a[row + 8 r][j] b[j][64 u + 4 column + e], j < kDepth.
template <int kWidth, int kDepth, int kR>
__device__ void add_rows_times_tile(const float* a, const float* b,
                                    float (&sums)[kR][kWidth / kThreadColumns]) {
  const float* own_a = a + thread_row() * kRowStride<kDepth>;
  const float* own_b = b + thread_column() * 4;
#pragma unroll 1
  for (int first = 0; first < kDepth; first += 4) {
    float x[kR][4];
#pragma unroll
    for (int r = 0; r < kR; ++r)
      store4(x[r], load4(own_a + r * kThreadRows * kRowStride<kDepth> + first));
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int u = 0; u < kWidth / 64; ++u) {
        const float4 y = load4(own_b + (first + j) * kRowStride<kWidth> + u * 64);
#pragma unroll
        for (int r = 0; r < kR; ++r) {
          sums[r][4 * u] = fmaf(x[r][j], y.x, sums[r][4 * u]);
          sums[r][4 * u + 1] = fmaf(x[r][j], y.y, sums[r][4 * u + 1]);
          sums[r][4 * u + 2] = fmaf(x[r][j], y.z, sums[r][4 * u + 2]);
          sums[r][4 * u + 3] = fmaf(x[r][j], y.w, sums[r][4 * u + 3]);
        }
      }
  }
}

// The thread's components of one row, times `factor`, to a row of `size` components.
template <int kCount, typename T>
__device__ void write_row(T* row, int size, const float (&values)[kCount], float factor,
                          bool vectors) {
#pragma unroll
  for (int u = 0; u < kCount / 4; ++u) {
    const int c = u * 64 + thread_column() * 4;
    const float4 x = make_float4(values[4 * u] * factor, values[4 * u + 1] * factor,
                                 values[4 * u + 2] * factor, values[4 * u + 3] * factor);
    if (c >= size) continue;
    if (vectors) {
      store4(row + c, x);
      continue;
    }
    store(row + c, x.x);
    if (c + 1 < size) store(row + c + 1, x.y);
    if (c + 2 < size) store(row + c + 2, x.z);
    if (c + 3 < size) store(row + c + 3, x.w);
  }
}

}  // namespace tessera::kernels::cuda
