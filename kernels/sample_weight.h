// Weights of sampling as whole numbers, the same to the bit on the host and in CUDA device code: a
// sum of them does not depend on its order, and a token's choice not on the backend.
//
//   w(z) = 2^40 exp((z - most) / temperature) to within a relative 1.4e-7 and one unit, w(most) =
//   2^40
//
// by 2^t = 2^n p(f), t = (z - most) log2(e) / temperature = n + f, |f| <= 1/2, where p is a
// polynomial of degree 5 in float32 whose roundings are all written out. Numbers are taken apart by
// their bits: conversions are slow on a GPU.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define TESSERA_WEIGHT_SIDES __host__ __device__
#else
#define TESSERA_WEIGHT_SIDES
#endif

namespace tessera::kernels {

inline constexpr int kWeightBits = 40;  // of the largest weight

// log2(e) / temperature: what sample_weight takes as `scale`.
inline float sample_scale(double temperature) {
  return static_cast<float>(1.4426950408889634 / temperature);
}

TESSERA_WEIGHT_SIDES inline std::uint32_t float_bits(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(x);
#else
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}

TESSERA_WEIGHT_SIDES inline std::uint64_t sample_weight(float z, float most, float scale) {
  if (z == most) return std::uint64_t{1} << kWeightBits;  // infinities: those that are equal
  constexpr float kLeast = -60;                           // beyond which weights are 0 in any case
  constexpr float kRound = 12582912.0f;                   // 1.5 x 2^23: x + this rounds x
#ifdef __CUDA_ARCH__
  const float t = fmaxf(__fmul_rn(__fsub_rn(z, most), scale), kLeast);
  const float rounded = __fadd_rn(t, kRound);
  const float f = __fsub_rn(t, __fsub_rn(rounded, kRound));
#else
  const float difference = z - most, scaled = difference * scale;
  const float t = scaled > kLeast ? scaled : kLeast;
  const float rounded = t + kRound;
  const float whole = rounded - kRound;
  const float f = t - whole;  // exact
#endif
  float p = 0.0013264715671539307f;
  p = fmaf(p, f, 0.009671513922512531f);
  p = fmaf(p, f, 0.05550733953714371f);
  p = fmaf(p, f, 0.24022242426872253f);
  p = fmaf(p, f, 0.6931470036506653f);
  p = fmaf(p, f, 1.0f);
  // p 2^n by n more in the exponent, then 24 bits of mantissa where 2^40 is one.
  const std::uint32_t scaled_bits =
      float_bits(p) + ((float_bits(rounded) - float_bits(kRound)) << 23);
  const std::uint64_t mantissa = (scaled_bits & 0x7fffffu) | 0x800000u;
  return (mantissa << (kWeightBits - 23)) >> (127 - (scaled_bits >> 23));
}

}  // namespace tessera::kernels

#undef TESSERA_WEIGHT_SIDES
