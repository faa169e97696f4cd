// The parallel residual's join: y = x + a + b, element by element (y may be x, a or b).
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct ResidualJoin {
  std::int64_t count = 0;
  const T *x = nullptr, *a = nullptr, *b = nullptr;
  T* y = nullptr;
};

namespace cpu {
template <typename T>
void residual_join(const ResidualJoin<T>& args);
}  // namespace cpu

template <typename T>
void residual_join(const Queue& queue, const ResidualJoin<T>& args) {
  need_cpu(queue, "residual_join");
  cpu::residual_join(args);
}

}  // namespace tessera::kernels
