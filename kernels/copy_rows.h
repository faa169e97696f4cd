// Copies equal runs between two strided layouts: run r of `width` elements goes from
// from + (r / runs_a_group) * from_group + (r % runs_a_group) * width to the same in `to`.
//
// The context expansion is a linear layer whose output, P rows of D a block, is laid before the
// block's token rows with this (and its gradient taken back). Also picks the rows that the LM head
// reads. `batches` of such groups follow one another every from_batch and to_batch elements (the
// sequences of a micro-batch).
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct CopyRows {
  std::int64_t groups = 0, runs_a_group = 0, width = 0;
  const T* from = nullptr;
  std::int64_t from_group = 0;  // elements between groups
  T* to = nullptr;
  std::int64_t to_group = 0;
  std::int64_t batches = 1, from_batch = 0, to_batch = 0;  // elements between batches
};

namespace cpu {
template <typename T>
void copy_rows(const CopyRows<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void copy_rows(const Queue& queue, const CopyRows<T>& args);
}  // namespace cuda

template <typename T>
void copy_rows(const Queue& queue, const CopyRows<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::copy_rows(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::copy_rows(args);
  refuse(queue, "copy_rows");
}

}  // namespace tessera::kernels
