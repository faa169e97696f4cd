// One byte a row of every window.
#include "kernels/key_mask.h"

#include "core/targets.h"

namespace tessera::kernels::cpu {

void key_mask(const KeyMask& a) {
  std::uint8_t* to = a.mask;
  for (std::int64_t b = 0; b < a.batches; ++b)
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const std::int32_t* targets = a.targets + b * a.batch_stride + g * a.group_stride;
      for (std::int64_t row = 0; row < a.prefix; ++row) *to++ = 1;
      for (std::int64_t j = 0; j < a.tokens; ++j) *to++ = targets[j] != kPadding;
    }
}

}  // namespace tessera::kernels::cpu
