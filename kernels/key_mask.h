// Which rows of the token decoder's windows may be attended to: all but those that hold padding
// (targets of kPadding, core/targets.h).
//
// Window g of batch b has `prefix` rows, which are always kept, and `tokens` rows, row prefix + j
// of which holds the token whose target is targets[b * batch_stride + g * group_stride + j].
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

struct KeyMask {
  std::int64_t batches = 0, groups = 0, prefix = 0, tokens = 0;
  const std::int32_t* targets = nullptr;
  std::int64_t batch_stride = 0, group_stride = 0;
  std::uint8_t* mask = nullptr;  // [batches * groups, prefix + tokens], 1 = a key
};

namespace cpu {
void key_mask(const KeyMask& args);
}  // namespace cpu
#ifdef TESSERA_HAS_CUDA
namespace cuda {
void key_mask(const KeyMask& args, void* stream);
}  // namespace cuda
#endif

inline void key_mask(const Queue& queue, const KeyMask& args) {
#ifdef TESSERA_HAS_CUDA
  if (queue.device == Device::cuda) return cuda::key_mask(args, queue.stream);
#endif
  need_cpu(queue, "key_mask");
  cpu::key_mask(args);
}

}  // namespace tessera::kernels
