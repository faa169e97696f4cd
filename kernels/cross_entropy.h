// Softmax cross entropy over rows of logits, which it can turn into their gradient in place.
//
// For row r with target t = targets[r] >= 0:
//   loss_r = log sum_v exp(z_rv) - z_rt,   dz_rv = weight (softmax(z_r)_v - [v = t])
// target -1: loss_r = 0 and dz_r = 0 (rows are never dropped).
// losses[r] is unweighted (nats). With `gradient` logits are overwritten by dz, else left alone.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct CrossEntropy {
  std::int64_t rows = 0, vocab = 0;
  T* logits = nullptr;                    // [rows, vocab]
  const std::int32_t* targets = nullptr;  // [rows]
  T* losses = nullptr;                    // [rows]
  T weight = 1;
  bool gradient = true;
};

namespace cpu {
template <typename T>
void cross_entropy(const CrossEntropy<T>& args);
}  // namespace cpu

template <typename T>
void cross_entropy(const Queue& queue, const CrossEntropy<T>& args) {
  need_cpu(queue, "cross_entropy");
  cpu::cross_entropy(args);
}

}  // namespace tessera::kernels
