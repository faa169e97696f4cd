// float32 <-> bfloat16 on integers: the CPU twin of cuda/cast.cu.
#include "kernels/cast.h"

#include <bit>

#include "kernels/cpu/parallel.h"

namespace tessera::kernels::cpu {
namespace {

inline std::uint16_t round_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  // Half a unit in the last place that stays, less one where that place is even.
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t quiet = (bits >> 16) | 0x40u;
  return static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

}  // namespace

void cast_to_bf16(const CastToBf16& a) {
  parallel_ranges(a.count, 64, kSerialElements, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a.to[i] = round_to_bf16(a.from[i]);
  });
}

void cast_from_bf16(const CastFromBf16& a) {
  parallel_ranges(a.count, 64, kSerialElements, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      a.to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(a.from[i]) << 16);
  });
}

}  // namespace tessera::kernels::cpu
