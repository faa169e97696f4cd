// float32 <-> bfloat16 on integers: the CPU twin of cuda/cast.cu.
#include "kernels/cast.h"

#include "core/float_formats.h"
#include "kernels/cpu/parallel.h"

namespace tessera::kernels::cpu {

void cast_to_bf16(const CastToBf16& a) {
  parallel_ranges(a.count, 64, kSerialElements, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a.to[i] = float_to_bf16(a.from[i]);
  });
}

void cast_from_bf16(const CastFromBf16& a) {
  parallel_ranges(a.count, 64, kSerialElements, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a.to[i] = bf16_to_float(a.from[i]);
  });
}

}  // namespace tessera::kernels::cpu
