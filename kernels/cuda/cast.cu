// float32 <-> bfloat16: a memory-bound pass, 8 elements a thread and step where both pointers are
// 16-byte aligned (two 16-byte float loads, one 16-byte store), single elements elsewhere.
#include "kernels/cast.h"
#include "kernels/cuda/launch.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr std::int64_t kGroup = 8;

__device__ std::uint32_t round_to_bf16(float value) {
  const std::uint32_t bits = __float_as_uint(value);
  // Half a unit in the last place that stays, less one where that place is even.
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (bits & 0x7fffffffu) > 0x7f800000u ? ((bits >> 16) | 0x40u) : rounded;
}

__device__ std::uint32_t round_pair(float low, float high) {
  return round_to_bf16(low) | (round_to_bf16(high) << 16);
}

__device__ float low_half(std::uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ float high_half(std::uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

// Elements [0, kGroup * groups) in groups, then the rest up to count one by one.
__global__ void to_bf16(std::int64_t groups, std::int64_t count, const float* __restrict__ from,
                        std::uint16_t* __restrict__ to) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = first; i < groups; i += step) {
    const float4 a = reinterpret_cast<const float4*>(from)[2 * i];
    const float4 b = reinterpret_cast<const float4*>(from)[2 * i + 1];
    reinterpret_cast<uint4*>(to)[i] = make_uint4(round_pair(a.x, a.y), round_pair(a.z, a.w),
                                                 round_pair(b.x, b.y), round_pair(b.z, b.w));
  }
  for (std::int64_t i = groups * kGroup + first; i < count; i += step)
    to[i] = static_cast<std::uint16_t>(round_to_bf16(from[i]));
}

__global__ void from_bf16(std::int64_t groups, std::int64_t count,
                          const std::uint16_t* __restrict__ from, float* __restrict__ to) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = first; i < groups; i += step) {
    const uint4 x = reinterpret_cast<const uint4*>(from)[i];
    float4* out = reinterpret_cast<float4*>(to) + 2 * i;
    out[0] = make_float4(low_half(x.x), high_half(x.x), low_half(x.y), high_half(x.y));
    out[1] = make_float4(low_half(x.z), high_half(x.z), low_half(x.w), high_half(x.w));
  }
  for (std::int64_t i = groups * kGroup + first; i < count; i += step) to[i] = low_half(from[i]);
}

// Whole groups of a pass, none where a pointer rules the wide path out.
std::int64_t whole_groups(std::int64_t count, const void* a, const void* b) {
  const auto address = reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b);
  return address % 16 == 0 ? count / kGroup : 0;
}

}  // namespace

void cast_to_bf16(const CastToBf16& a, void* stream) {
  if (a.count <= 0) return;
  const std::int64_t groups = whole_groups(a.count, a.from, a.to);
  to_bf16<<<grid_blocks(groups > 0 ? groups : a.count), kBlockThreads, 0,
            static_cast<cudaStream_t>(stream)>>>(groups, a.count, a.from, a.to);
  check_launch("cast_to_bf16");
}

void cast_from_bf16(const CastFromBf16& a, void* stream) {
  if (a.count <= 0) return;
  const std::int64_t groups = whole_groups(a.count, a.from, a.to);
  from_bf16<<<grid_blocks(groups > 0 ? groups : a.count), kBlockThreads, 0,
              static_cast<cudaStream_t>(stream)>>>(groups, a.count, a.from, a.to);
  check_launch("cast_from_bf16");
}

}  // namespace tessera::kernels::cuda
