// float32 values that a cast to bfloat16 can get wrong, shared by the CPU and the GPU test.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace tessera::kernels::check {

// Every upper half with the lower halves that matter: zero, just below, at and above a tie, all
// ones. Holds every kind of number: zeros, subnormal, infinite and NaN of both signs.
inline std::vector<float> cast_values() {
  std::vector<float> values;
  for (std::uint32_t upper = 0; upper < 0x10000u; ++upper)
    for (const std::uint32_t lower : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      values.push_back(std::bit_cast<float>(upper << 16 | lower));
  return values;
}

}  // namespace tessera::kernels::check
