// Sums over the rows of a matrix on the device, added to float sums in an order that depends on the
// shape alone: the gradient of a bias. Uses the queue's workspace.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels::cuda {

// sums[j] += x[0, j] + ... + x[rows - 1, j]; rows of x start every `stride` elements.
template <typename T>
void add_column_sums(const Queue& queue, std::int64_t rows, std::int64_t columns,
                     std::int64_t stride, const T* x, float* sums);

}  // namespace tessera::kernels::cuda
