// The general attention kernels (kernels/attention.h), launched from attention.cpp. Shapes have
// windows, heads, a head size up to 256, and queries <= keys; nothing to do is done in
// attention.cpp.
#pragma once

#include <cmath>

#include <cuda_runtime.h>

#include "kernels/attention.h"

namespace tessera::kernels::cuda {

inline constexpr std::int64_t kMostHeadSize = 256;
inline constexpr std::int64_t kFewQueries = 4;

// Up to kFewQueries queries.
template <typename T>
void attention_forward_few(const AttentionForward<T>& args, cudaStream_t stream);
template <typename T>
void attention_forward_tiles(const AttentionForward<T>& args, cudaStream_t stream);
// `delta`: room for D_i, windows * heads * queries floats.
template <typename T>
void attention_backward_tiles(const AttentionBackward<T>& args, float* delta, cudaStream_t stream);

inline float softmax_scale(const AttentionShape& s) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_size)));
}

// Where a tensor's rows start, as far as vector accesses care.
inline bool strides_divide(const AttentionShape& s, std::int64_t elements) {
  const std::int64_t all[] = {s.head_size, s.q_window, s.q_row,  s.q_head,
                              s.kv_window, s.kv_row,   s.kv_head};
  for (const std::int64_t stride : all)
    if (stride % elements != 0) return false;
  return true;
}
template <typename... P>
bool are_aligned(std::int64_t bytes, const P*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) | ...) %
          static_cast<std::uintptr_t>(bytes)) == 0;
}

}  // namespace tessera::kernels::cuda
