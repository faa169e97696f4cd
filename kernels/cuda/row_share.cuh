// Rows of a head shared by a group of lanes, and the softmax that such a group keeps: what the
// kernels of decoding have in common.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/vector.cuh"

namespace tessera::kernels::cuda {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

// Lanes and their 16-byte chunks that cover a row of kWidth elements of T.
template <typename T, int kWidth>
struct RowShare {
  static constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  static constexpr int kVectors = kWidth / kVector;
  static constexpr int kLanes = kVectors < 32 ? kVectors : 32, kChunks = kVectors / kLanes;
  static constexpr int kCount = kChunks * kVector;  // elements of a lane
  static constexpr int kGroups = 32 / kLanes;       // rows that a warp reads at once
  static constexpr int kFlying = 4 / kChunks;       // keys of a group at a time
  static constexpr int kStep = kGroups * kFlying;   // keys of a warp at a time

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kLanes; }
  // The row's element that is element 0 of the lane's chunk.
  __device__ static int column(int chunk) { return (chunk * kLanes + lane()) * kVector; }
};

__device__ __forceinline__ unsigned bits_of(float x) {
  return __float_as_uint(x);
}
__device__ __forceinline__ unsigned bits_of(bf16 x) {
  return x.bits;
}

// 16 bytes of a row from element c on, zero beyond `size` elements or where not live. Whole vectors
// are read whether or not they are wanted (the row's first instead), so that several loads fly.
template <bool kVectors, typename T>
__device__ __forceinline__ uint4 load_chunk(const T* row, int c, int size, bool live) {
  constexpr int kEach = 4 / static_cast<int>(sizeof(T));  // elements of a word
  live = live && c < size;
  unsigned words[4] = {};
  if constexpr (kVectors) {
    const uint4 x = *reinterpret_cast<const uint4*>(row + (c < size ? c : 0));
    if (live) return x;
  } else {
#pragma unroll
    for (int i = 0; i < 4 * kEach; ++i)
      if (live && c + i < size) words[i / kEach] |= bits_of(row[c + i]) << (i % kEach * 16);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// A softmax over some of the keys: maximum, sum and unscaled output, both relative to the maximum.
template <int kCount>
struct Partial {
  float most = -INFINITY, sum = 0, out[kCount] = {};

  __device__ static float shift(float most) { return most == -INFINITY ? 0.0f : most; }
  // Takes in the partial of the lane's counterpart in another group.
  __device__ void join(int other_lane) {
    const float other = __shfl_xor_sync(kWholeWarp, most, other_lane);
    const float top = fmaxf(most, other);
    const float own_share = expf(most - shift(top)), other_share = expf(other - shift(top));
    most = top;
    sum = sum * own_share + __shfl_xor_sync(kWholeWarp, sum, other_lane) * other_share;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      out[i] = out[i] * own_share + __shfl_xor_sync(kWholeWarp, out[i], other_lane) * other_share;
  }
};

}  // namespace tessera::kernels::cuda
