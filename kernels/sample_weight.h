// Weights of sampling as whole numbers, the same to the bit on the host and in CUDA device code: a
// sum of them does not depend on its order, and a token's choice not on the backend.
//
//   w(z) = round(2^40 exp((z - most) / temperature)) to within a relative 1.4e-7, w(most) = 2^40
//
// by 2^t = 2^n p(f), t = (z - most) log2(e) / temperature = n + f, where p is a polynomial of
// degree 5 in float32 whose roundings are all written out.
#pragma once

#include <cmath>
#include <cstdint>

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

TESSERA_WEIGHT_SIDES inline std::uint64_t sample_weight(float z, float most, float scale) {
  if (z == most) return std::uint64_t{1} << kWeightBits;  // infinities: those that are equal
#ifdef __CUDA_ARCH__
  const float t = __fmul_rn(__fsub_rn(z, most), scale);
#else
  const float difference = z - most, t = difference * scale;
#endif
  if (!(t > -static_cast<float>(kWeightBits + 2))) return 0;
  const float whole = floorf(t), f = t - whole;  // exact
  float p = 0.001867135288193822f;
  p = fmaf(p, f, 0.009017016738653183f);
  p = fmaf(p, f, 0.055799923837184906f);
  p = fmaf(p, f, 0.24016444385051727f);
  p = fmaf(p, f, 0.6931512951850891f);
  p = fmaf(p, f, 1.0f);
  const auto mantissa = static_cast<std::uint64_t>(p * 8388608.0f);  // of 24 bits, exact
  const int shift = static_cast<int>(whole) + kWeightBits - 23;
  if (shift >= 0) return mantissa << shift;
  return (mantissa + (std::uint64_t{1} << (-shift - 1))) >> -shift;
}

}  // namespace tessera::kernels

#undef TESSERA_WEIGHT_SIDES
