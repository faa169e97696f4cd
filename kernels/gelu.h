// Exact GELU: y = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2; dx = dy (Phi(x) + x phi(x)).
//
// The backward also sums dx over rows where dbias is given: the gradient of the bias that was added
// to make x. On CUDA dbias is summed from dx in float before it is rounded to bf16.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct GeluForward {
  std::int64_t count = 0;
  const T* x = nullptr;
  T* y = nullptr;  // may be x
};

template <typename T>
struct GeluBackward {
  std::int64_t rows = 0, width = 0;
  const T* x = nullptr;  // the forward's input
  const T* dy = nullptr;
  T* dx = nullptr;           // may be dy
  Wide<T>* dbias = nullptr;  // [width], added to, or null
};

namespace cpu {
template <typename T>
void gelu_forward(const GeluForward<T>& args);
template <typename T>
void gelu_backward(const GeluBackward<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void gelu_forward(const Queue& queue, const GeluForward<T>& args);
template <typename T>
void gelu_backward(const Queue& queue, const GeluBackward<T>& args);
}  // namespace cuda

template <typename T>
void gelu_forward(const Queue& queue, const GeluForward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::gelu_forward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::gelu_forward(args);
  refuse(queue, "gelu_forward");
}

template <typename T>
void gelu_backward(const Queue& queue, const GeluBackward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::gelu_backward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::gelu_backward(args);
  refuse(queue, "gelu_backward");
}

}  // namespace tessera::kernels
