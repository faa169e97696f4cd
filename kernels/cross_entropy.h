// Softmax cross entropy over rows of logits, which it can turn into their gradient in place.
//
// For row r with target t = targets[r] >= 0:
//   loss_r = log sum_v exp(z_rv) - z_rt,   dz_rv = weight (softmax(z_r)_v - [v = t])
// target below 0: loss_r = 0 and dz_r = 0 (rows are never dropped).
// losses[r] is unweighted (nats). With `gradient` logits are overwritten by dz, else left alone.
// Rows of logits start every `stride` elements (0: vocab); what lies between is not touched.
// Row r's target is targets[(first_row + r) / group_rows * group_stride + (first_row + r) %
// group_rows]: targets are read where the loader put them, a chunk of rows at a time.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct CrossEntropy {
  std::int64_t rows = 0, vocab = 0;
  T* logits = nullptr;                    // [rows, vocab]
  std::int64_t stride = 0;                // elements between rows of logits; 0 = vocab
  const std::int32_t* targets = nullptr;  // [rows] where groups are not given
  std::int64_t first_row = 0, group_rows = 0, group_stride = 0;  // group_rows 0: one group
  Wide<T>* losses = nullptr;                                     // [rows]
  const Wide<T>* weight = nullptr;  // one number in the queue's memory; needed with `gradient`
  bool gradient = true;

  TESSERA_HOST_DEVICE std::int64_t target_index(std::int64_t row) const {
    const std::int64_t r = first_row + row;
    return group_rows > 0 ? r / group_rows * group_stride + r % group_rows : r;
  }
};

namespace cpu {
template <typename T>
void cross_entropy(const CrossEntropy<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void cross_entropy(const Queue& queue, const CrossEntropy<T>& args);
}  // namespace cuda

template <typename T>
void cross_entropy(const Queue& queue, const CrossEntropy<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::cross_entropy(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::cross_entropy(args);
  refuse(queue, "cross_entropy");
}

}  // namespace tessera::kernels
