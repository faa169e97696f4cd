// exp and the normal distribution function on vectors.
//
// float: own approximations, coefficients fitted (weighted minimax) to 40-digit values. double: the
// C library, lane by lane; double is for tests.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {

// e^x to about 1 ulp; results below the smallest normal number are 0, above the largest infinity;
// NaN stays NaN. x = n ln 2 + r; e^r by a polynomial (relative error 3e-9), n into the exponent.
inline Vec<float> exp(Vec<float> x) {
  typedef std::uint32_t Integers __attribute__((vector_size(kVectorBytes)));
  constexpr float kLog2e = 1.44269504f, kRound = 12582912.0f;  // 1.5 * 2^23
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const Vec<float> shifted = x * kLog2e + kRound;  // n sits in the lowest bits
  const Vec<float> n = shifted - kRound;
  const Vec<float> r = (x - n * kLn2High) - n * kLn2Low;
  Vec<float> p = r * 1.381459782e-03f + 8.368716951e-03f;
  p = p * r + 4.166838806e-02f;
  p = p * r + 1.666652063e-01f;
  p = p * r + 4.999999345e-01f;
  p = (p * (r * r) + r) + 1.0f;
  const Integers scaled = (Integers)p + ((Integers)shifted << 23);
  Vec<float> result = (Vec<float>)scaled;
  result = x < -87.33654f ? Vec<float>{} : result;
  result = x > 88.72283f ? broadcast(std::numeric_limits<float>::infinity()) : result;
  return x == x ? result : x;
}

inline Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

// Phi(x), the distribution function of the standard normal, within 1e-7 (and to 1e-3 of its own
// size down to x = -5): Phi(-|x|) = e^P(|x|) with a polynomial P for log Phi(-|x|), so that
// negative arguments lose nothing to 1 + erf. The fit covers |x| <= 13.5, where Phi is 0 or 1.
inline Vec<float> normal_cdf(Vec<float> x) {
  Vec<float> a = x < 0 ? -x : x;
  a = a > 13.5f ? broadcast(13.5f) : a;
  Vec<float> p = a * -7.627504433e-09f + 3.158414318e-07f;
  p = p * a + -5.117857747e-06f;
  p = p * a + 4.140234899e-05f;
  p = p * a + -1.622708874e-04f;
  p = p * a + -5.212944105e-05f;
  p = p * a + 4.866973068e-03f;
  p = p * a + -3.637874442e-02f;
  p = p * a + -3.182993465e-01f;
  p = p * a + -7.978855116e-01f;
  p = p * a + -6.931471670e-01f;
  const Vec<float> tail = exp(p);
  return x < 0 ? tail : 1.0f - tail;
}

inline Vec<double> normal_cdf(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = 0.5 * std::erfc(-x[i] * 0.70710678118654752440);
  return x;
}

}  // namespace tessera::kernels::cpu
