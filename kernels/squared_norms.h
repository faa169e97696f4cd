// Sums of squares, one a tensor, of the slices of a list, in double and in an order that depends on
// the list alone. A NaN or infinity in a slice makes its tensor's sum non-finite: the step's health
// flag.
//   sums[t] = sum over slices of tensor t, in list order, of sum of x[offset + i]^2
// Tensors ascend in the list. Tensors without a slice get 0.
#pragma once

#include <cstdint>

#include "kernels/queue.h"
#include "kernels/tensor_slice.h"

namespace tessera::kernels {

template <typename T>
struct SquaredNorms {
  const TensorSlice* slices = nullptr;  // queue's memory
  std::int64_t slice_count = 0;
  const T* x = nullptr;       // base that offsets count from
  double* partial = nullptr;  // [slice_count], scratch
  double* sums = nullptr;     // [tensors], overwritten
  std::int64_t tensors = 0;
};

namespace cpu {
template <typename T>
void squared_norms(const SquaredNorms<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void squared_norms(const Queue& queue, const SquaredNorms<T>& args);
}  // namespace cuda

template <typename T>
void squared_norms(const Queue& queue, const SquaredNorms<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::squared_norms(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::squared_norms(args);
  refuse(queue, "squared_norms");
}

}  // namespace tessera::kernels
