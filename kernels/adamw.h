// AdamW (Loshchilov & Hutter 2019) over a list of tensor slices, with bias correction and PyTorch's
// order:
//   g' = scale g; p -= lr weight_decay p; m = b1 m + (1 - b1) g'; v = b2 v + (1 - b2) g'^2
//   p -= lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)          n = step = 1, 2, ...
// `scale` carries the clipping factor. Parameters and moments are Wide<T>; where `working` is given
// (bf16 models), the new parameter is also written there, rounded to nearest even.
// What changes from step to step lies in the queue's memory, so that a captured graph can be
// replayed.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/queue.h"
#include "kernels/tensor_slice.h"

namespace tessera::kernels {

struct AdamWStep {
  double lr = 0;
  double scale = 1;
  double rate = 0;  // lr / (1 - b1^n)
  double root = 1;  // 1 / sqrt(1 - b2^n)
};

inline AdamWStep adamw_step(double lr, double scale, double beta1, double beta2,
                            std::int64_t step) {
  const auto n = static_cast<double>(step);
  return {lr, scale, lr / (1 - std::pow(beta1, n)), 1 / std::sqrt(1 - std::pow(beta2, n))};
}

template <typename T>
struct AdamW {
  const TensorSlice* slices = nullptr;  // queue's memory
  std::int64_t slice_count = 0;
  const AdamWStep* step = nullptr;  // queue's memory
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  // Bases: a slice is at its offset in gradient and working, at offset - shift in m and v. Where
  // working is given, parameter is a master copy that lies as m and v do; else it is at its offset.
  Wide<T>*parameter = nullptr, *m = nullptr, *v = nullptr;
  const Wide<T>* gradient = nullptr;
  T* working = nullptr;  // or null
};

namespace cpu {
template <typename T>
void adamw(const AdamW<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void adamw(const Queue& queue, const AdamW<T>& args);
}  // namespace cuda

template <typename T>
void adamw(const Queue& queue, const AdamW<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::adamw(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::adamw(args);
  refuse(queue, "adamw");
}

}  // namespace tessera::kernels
