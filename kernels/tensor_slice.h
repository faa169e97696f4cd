// A list of parts of tensors that lie in one flat array: what multi-tensor operations (AdamW,
// norms) run over in one call.
#pragma once

#include <cstdint>

namespace tessera::kernels {

struct TensorSlice {
  std::int64_t offset = 0;  // first element in the flat array, a multiple of 4
  std::int64_t count = 0;
  std::int32_t tensor = 0;  // index of the tensor
  float weight_decay = 0;
  std::int64_t shift =
      0;  // optimizer state of the slice is at offset - shift: it is kept without gaps
};

// Slices in a list for CUDA hold at most this many elements (a thread block's work).
inline constexpr std::int64_t kSliceElements = 16384;

}  // namespace tessera::kernels
