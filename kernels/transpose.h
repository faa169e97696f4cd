// Transposes equal matrices that follow one another in memory:
// to[m, c, r] = from[m, r, c]          from [matrices, rows, columns], to [matrices, columns, rows]
//
// The block embedder with a projection needs it: the published weight of its convolution,
// [D, D, L_B], has a component's L_B numbers side by side, so the L_B embeddings of a block,
// [L_B, D], are turned to [D, L_B] before the product, and their gradient is turned back. One side
// is then a few elements long and the other one hundreds.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct Transpose {
  std::int64_t matrices = 0, rows = 0, columns = 0;  // of `from`
  const T* from = nullptr;
  T* to = nullptr;
};

namespace cpu {
template <typename T>
void transpose(const Transpose<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void transpose(const Queue& queue, const Transpose<T>& args);
}  // namespace cuda

template <typename T>
void transpose(const Queue& queue, const Transpose<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::transpose(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::transpose(args);
  refuse(queue, "transpose");
}

}  // namespace tessera::kernels
