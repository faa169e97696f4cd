// AdamW (Loshchilov & Hutter 2019) on a contiguous slice, with bias correction and PyTorch's order:
//   g' = scale g; p -= lr weight_decay p; m = b1 m + (1 - b1) g'; v = b2 v + (1 - b2) g'^2
//   p -= lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)          n = step = 1, 2, ...
// `scale` carries the clipping factor. Multi-tensor: the caller gives segments that share a decay.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct AdamW {
  std::int64_t count = 0;
  T *parameter = nullptr, *m = nullptr, *v = nullptr;
  const T* gradient = nullptr;
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0, scale = 1;
  std::int64_t step = 1;
};

namespace cpu {
template <typename T>
void adamw(const AdamW<T>& args);
}  // namespace cpu

template <typename T>
void adamw(const Queue& queue, const AdamW<T>& args) {
  need_cpu(queue, "adamw");
  cpu::adamw(args);
}

}  // namespace tessera::kernels
