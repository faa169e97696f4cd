// sum += x[0] + ... + x[count - 1] in double, in an order that depends on `count` alone: the loss
// of a micro-batch from its tokens' losses.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct Sum {
  std::int64_t count = 0;
  const T* x = nullptr;
  double* sum = nullptr;  // one number, added to
};

namespace cpu {
template <typename T>
void sum(const Sum<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void sum(const Queue& queue, const Sum<T>& args);
}  // namespace cuda

template <typename T>
void sum(const Queue& queue, const Sum<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::sum(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::sum(args);
  refuse(queue, "sum");
}

}  // namespace tessera::kernels
