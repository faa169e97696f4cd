// Copies equal runs between two strided layouts: run r of `width` elements goes from
// from + (r / runs_a_group) * from_group + (r % runs_a_group) * width to the same in `to`.
//
// The context expansion is a linear layer whose output, P rows of D a block, is laid before the
// block's token rows with this (and its gradient taken back). Also picks the rows that the LM head
// reads. `add`: to += from instead of to = from.
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
  bool add = false;
};

namespace cpu {
template <typename T>
void copy_rows(const CopyRows<T>& args);
}  // namespace cpu

template <typename T>
void copy_rows(const Queue& queue, const CopyRows<T>& args) {
  need_cpu(queue, "copy_rows");
  cpu::copy_rows(args);
}

}  // namespace tessera::kernels
