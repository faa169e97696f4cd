// Sum of squares of a slice, in double, in an order that depends on `count` alone (fixed chunks,
// not threads). A NaN or infinity in the slice makes the result non-finite: the step's health flag.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

namespace cpu {
template <typename T>
double squared_norm(const T* x, std::int64_t count);
}  // namespace cpu

template <typename T>
double squared_norm(const Queue& queue, const T* x, std::int64_t count) {
  need_cpu(queue, "squared_norm");
  return cpu::squared_norm(x, count);
}

}  // namespace tessera::kernels
