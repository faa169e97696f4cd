// Exact GELU: y = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2; dx = dy (Phi(x) + x phi(x)).
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
  std::int64_t count = 0;
  const T* x = nullptr;  // the forward's input
  const T* dy = nullptr;
  T* dx = nullptr;  // may be dy
};

namespace cpu {
template <typename T>
void gelu_forward(const GeluForward<T>& args);
template <typename T>
void gelu_backward(const GeluBackward<T>& args);
}  // namespace cpu

template <typename T>
void gelu_forward(const Queue& queue, const GeluForward<T>& args) {
  need_cpu(queue, "gelu_forward");
  cpu::gelu_forward(args);
}
template <typename T>
void gelu_backward(const Queue& queue, const GeluBackward<T>& args) {
  need_cpu(queue, "gelu_backward");
  cpu::gelu_backward(args);
}

}  // namespace tessera::kernels
