// Linear layer, weights as PyTorch stores them.
//
// forward:  y = x W^T + b + a         x [rows, in], W [out, in], b [out] or null, y [rows, out],
//                                     a [rows, out] or null, may be y where y's rows are packed
// backward: dx = dy W                 (skipped when dx is null)
//           dW += dy^T x              (skipped when dweight is null)
//           db += sum of dy's rows    (skipped when dbias is null)
// Rows of y and dy start every y_stride elements (0: out). On CUDA bf16 products accumulate in
// float; bases and strides that are multiples of 16 bytes take the fast kernels.
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
  const T* add = nullptr;     // row stride `out`
  std::int64_t y_stride = 0;  // elements between rows of y; 0 = out
};

template <typename T>
struct LinearBackward {
  std::int64_t rows = 0, in = 0, out = 0;
  const T* x = nullptr;
  const T* weight = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;             // overwritten
  Wide<T>* dweight = nullptr;  // added to
  Wide<T>* dbias = nullptr;    // added to
  std::int64_t y_stride = 0;   // elements between rows of dy; 0 = out
};

namespace cpu {
template <typename T>
void linear_forward(const LinearForward<T>& args);
template <typename T>
void linear_backward(const LinearBackward<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void linear_forward(const Queue& queue, const LinearForward<T>& args);
template <typename T>
void linear_backward(const Queue& queue, const LinearBackward<T>& args);
}  // namespace cuda

template <typename T>
void linear_forward(const Queue& queue, const LinearForward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::linear_forward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::linear_forward(args);
  refuse(queue, "linear_forward");
}

template <typename T>
void linear_backward(const Queue& queue, const LinearBackward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::linear_backward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::linear_backward(args);
  refuse(queue, "linear_backward");
}

}  // namespace tessera::kernels
