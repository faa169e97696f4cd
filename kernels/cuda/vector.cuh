// Sixteen bytes at a time: a vector of T as float lanes.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/dtype.h"

namespace tessera::kernels::cuda {

template <typename T>
inline constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
  return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16);
}
template <typename T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, bf16>) {
    bf16 result;
    result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    return result;
  } else {
    return x;
  }
}

__device__ __forceinline__ std::uint32_t pack_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// The lanes of sixteen loaded bytes.
template <typename T>
__device__ __forceinline__ void unpack(const uint4& v, float (&x)[kLanes<T>]) {
  const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (std::is_same_v<T, bf16>) {
      x[2 * i] = __uint_as_float(words[i] << 16);
      x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    } else {
      x[i] = __uint_as_float(words[i]);
    }
  }
}
template <typename T>
__device__ __forceinline__ uint4 pack(const float (&x)[kLanes<T>]) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (std::is_same_v<T, bf16>)
      words[i] = pack_pair(x[2 * i], x[2 * i + 1]);
    else
      words[i] = __float_as_uint(x[i]);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

template <typename T>
__device__ __forceinline__ uint4 load_raw(const T* p) {
  return *reinterpret_cast<const uint4*>(p);
}
template <typename T>
__device__ __forceinline__ void load(const T* p, float (&x)[kLanes<T>]) {
  unpack<T>(load_raw(p), x);
}
template <typename T>
__device__ __forceinline__ void store(T* p, const float (&x)[kLanes<T>]) {
  *reinterpret_cast<uint4*>(p) = pack<T>(x);
}

// Host: whether pointers allow vectors.
template <typename... P>
bool vector_aligned(const P*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) | ...) & 15) == 0;
}

}  // namespace tessera::kernels::cuda
