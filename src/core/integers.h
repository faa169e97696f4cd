// Integer arithmetic that cannot go wrong silently: sizes read from files or configurations pass
// through these before anything is allocated.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "core/error.h"

namespace tessera {

// ceil(a / b) for a >= 0, b > 0.
template <typename T>
constexpr T div_ceil(T a, T b) {
  return (a + b - 1) / b;
}

// a rounded up to a multiple of b.
template <typename T>
constexpr T round_up(T a, T b) {
  return div_ceil(a, b) * b;
}

// a / b; an internal error unless it is exact.
template <typename T>
constexpr T div_exact(T a, T b) {
  TESSERA_CHECK(b != 0 && a % b == 0);
  return a / b;
}

// a * b, or Error{data} naming `what` when it overflows int64.
inline std::int64_t checked_mul(std::int64_t a, std::int64_t b, const std::string& what) {
  std::int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result))
    throw Error(Category::data, what + ": size overflows 64 bits");
  return result;
}

// a + b, or Error{data} naming `what` when it overflows int64.
inline std::int64_t checked_add(std::int64_t a, std::int64_t b, const std::string& what) {
  std::int64_t result = 0;
  if (__builtin_add_overflow(a, b, &result))
    throw Error(Category::data, what + ": size overflows 64 bits");
  return result;
}

// value as To; an internal error when To cannot hold it.
template <typename To, typename From>
constexpr To narrow(From value) {
  const To result = static_cast<To>(value);
  TESSERA_CHECK(static_cast<From>(result) == value && ((result < To{}) == (value < From{})));
  return result;
}

}  // namespace tessera
