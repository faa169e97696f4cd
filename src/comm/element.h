// Element types of transports on the host: bf16 to float and back, and arrays in the type that
// their sums are made in (bf16: fp32; the others themselves).
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "comm/transport.h"

namespace tessera::comm {

// A bf16 is the upper half of a float.
inline float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Rounded to nearest, ties to even; a NaN stays one.
inline std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline Element sum_element(Element element) {
  return element == Element::bf16 ? Element::fp32 : element;
}
// `count` elements of `element` as sum_element(element), and back.
void widen(Element element, const std::byte* from, std::int64_t count, std::byte* to);
void narrow_back(Element element, const std::byte* from, std::int64_t count, std::byte* to);

}  // namespace tessera::comm
