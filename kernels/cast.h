// float32 <-> bfloat16, element by element. bfloat16 is the upper half of a float32, held as
// uint16.
//
// to:   rounded to nearest, ties to even; overflow to infinity; a NaN keeps its sign and upper
//       payload and becomes quiet. from: exact. The CPU and CUDA results are the same bits.
// Needs no alignment beyond the elements' own; 16-byte aligned pointers take the wide path.
// On CUDA the call is asynchronous on the queue's stream.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

struct CastToBf16 {
  std::int64_t count = 0;
  const float* from = nullptr;
  std::uint16_t* to = nullptr;
};

struct CastFromBf16 {
  std::int64_t count = 0;
  const std::uint16_t* from = nullptr;
  float* to = nullptr;
};

namespace cpu {
void cast_to_bf16(const CastToBf16& args);
void cast_from_bf16(const CastFromBf16& args);
}  // namespace cpu

#ifdef TESSERA_HAS_CUDA
namespace cuda {
void cast_to_bf16(const CastToBf16& args, void* stream);
void cast_from_bf16(const CastFromBf16& args, void* stream);
}  // namespace cuda
#endif

inline void cast_to_bf16(const Queue& queue, const CastToBf16& args) {
#ifdef TESSERA_HAS_CUDA
  if (queue.device == Device::cuda) return cuda::cast_to_bf16(args, queue.stream);
#endif
  need_cpu(queue, "cast_to_bf16");
  cpu::cast_to_bf16(args);
}

inline void cast_from_bf16(const Queue& queue, const CastFromBf16& args) {
#ifdef TESSERA_HAS_CUDA
  if (queue.device == Device::cuda) return cuda::cast_from_bf16(args, queue.stream);
#endif
  need_cpu(queue, "cast_from_bf16");
  cpu::cast_from_bf16(args);
}

}  // namespace tessera::kernels
