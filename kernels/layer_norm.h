// Layer normalisation (Ba et al. 2016) with one or two affine outputs from one normalised x: the
// parallel residual's two norms read the same x, so statistics are computed once.
//
// forward:  mean = sum(x) / D; rstd = 1 / sqrt(sum((x - mean)^2) / D + eps); xhat = (x - mean) rstd
//           y1 = xhat g1 + b1, and y2 = xhat g2 + b2 where y2 is given      x, y [rows, D]
// backward: d = dy1 g1 + dy2 g2;  dx = rstd (d - mean(d) - xhat mean(d xhat)) + dresidual
//           dg1 += sum over rows of dy1 xhat; db1 += sum over rows of dy1; likewise 2
//           dsum1 += sum over rows of dresidual, and dsum2 likewise: the gradients of the biases
//           of the two branches that joined the residual stream behind this x
// Parameter gradients are summed in a fixed order for a given number of threads.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct LayerNormForward {
  std::int64_t rows = 0, width = 0;
  double eps = 1e-5;
  const T* x = nullptr;
  const T *gain1 = nullptr, *bias1 = nullptr;
  T* y1 = nullptr;                             // may be x where y2 is null
  const T *gain2 = nullptr, *bias2 = nullptr;  // null with y2
  T* y2 = nullptr;
  Wide<T>*mean = nullptr, *rstd = nullptr;  // [rows] each, written for the backward; may be null
};

template <typename T>
struct LayerNormBackward {
  std::int64_t rows = 0, width = 0;
  const T* x = nullptr;
  const Wide<T>*mean = nullptr, *rstd = nullptr;
  const T *gain1 = nullptr, *dy1 = nullptr;
  Wide<T>*dgain1 = nullptr, *dbias1 = nullptr;  // added to
  const T *gain2 = nullptr, *dy2 = nullptr;     // null when the forward had one output
  Wide<T>*dgain2 = nullptr, *dbias2 = nullptr;
  const T* dresidual = nullptr;               // [rows, D] added to dx, or null
  T* dx = nullptr;                            // overwritten; may be the same memory as dresidual
  Wide<T>*dsum1 = nullptr, *dsum2 = nullptr;  // [D] each, added to, or null; need dresidual
};

namespace cpu {
template <typename T>
void layer_norm_forward(const LayerNormForward<T>& args);
template <typename T>
void layer_norm_backward(const LayerNormBackward<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void layer_norm_forward(const Queue& queue, const LayerNormForward<T>& args);
template <typename T>
void layer_norm_backward(const Queue& queue, const LayerNormBackward<T>& args);
}  // namespace cuda

template <typename T>
void layer_norm_forward(const Queue& queue, const LayerNormForward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::layer_norm_forward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::layer_norm_forward(args);
  refuse(queue, "layer_norm_forward");
}

template <typename T>
void layer_norm_backward(const Queue& queue, const LayerNormBackward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::layer_norm_backward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::layer_norm_backward(args);
  refuse(queue, "layer_norm_backward");
}

}  // namespace tessera::kernels
