// Linear layer, weights as PyTorch stores them.
//
// forward:  y = x W^T + b             x [rows, in], W [out, in], b [out] or null, y [rows, out]
// backward: dx = dy W                 (skipped when dx is null)
//           dW += dy^T x              (skipped when dweight is null)
//           db += sum of dy's rows    (skipped when dbias is null)
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct LinearForward {
  std::int64_t rows = 0, in = 0, out = 0;
  const T* x = nullptr;
  const T* weight = nullptr;
  const T* bias = nullptr;
  T* y = nullptr;
};

template <typename T>
struct LinearBackward {
  std::int64_t rows = 0, in = 0, out = 0;
  const T* x = nullptr;
  const T* weight = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;  // overwritten, or added to when accumulate_dx
  bool accumulate_dx = false;
  T* dweight = nullptr;  // added to
  T* dbias = nullptr;    // added to
};

namespace cpu {
template <typename T>
void linear_forward(const LinearForward<T>& args);
template <typename T>
void linear_backward(const LinearBackward<T>& args);
}  // namespace cpu

template <typename T>
void linear_forward(const Queue& queue, const LinearForward<T>& args) {
  need_cpu(queue, "linear_forward");
  cpu::linear_forward(args);
}
template <typename T>
void linear_backward(const Queue& queue, const LinearBackward<T>& args) {
  need_cpu(queue, "linear_backward");
  cpu::linear_backward(args);
}

}  // namespace tessera::kernels
