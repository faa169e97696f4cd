// The gradient of a bias: one read of the matrix at memory speed, then the partial sums.
#include "kernels/cuda/column_blocks.cuh"
#include "kernels/cuda/column_sums.h"

namespace tessera::kernels::cuda {
namespace {

template <typename T, int lanes>
__global__ void sum_columns(std::int64_t rows, std::int64_t columns, std::int64_t stride,
                            const T* __restrict__ x, float* __restrict__ partial) {
  visit_columns<lanes>(rows, columns, partial, [&](std::int64_t r, std::int64_t c, float* sums) {
    if constexpr (lanes == 1) {
      sums[0] += to_float(x[r * stride + c]);
    } else {
      float values[lanes];
      load(x + r * stride + c, values);
#pragma unroll
      for (int i = 0; i < lanes; ++i) sums[i] += values[i];
    }
  });
}

}  // namespace

template <typename T>
void add_column_sums(const Queue& queue, std::int64_t rows, std::int64_t columns,
                     std::int64_t stride, const T* x, float* sums) {
  if (rows == 0 || columns == 0) return;
  const bool vectors = columns % kLanes<T> == 0 && stride % kLanes<T> == 0 && vector_aligned(x);
  const ColumnBlocks cut(rows, columns, vectors ? kLanes<T> : 1);
  TESSERA_CHECK(cut.partial_bytes() <= queue.workspace_bytes);
  auto* partial = reinterpret_cast<float*>(queue.workspace);
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  if (vectors)
    sum_columns<T, kLanes<T>>
        <<<cut.grid, cut.block, 0, stream>>>(rows, columns, stride, x, partial);
  else
    sum_columns<T, 1><<<cut.grid, cut.block, 0, stream>>>(rows, columns, stride, x, partial);
  check_launch("column sums");
  ColumnOutputs outputs;
  outputs.add(sums, 0);
  launch_finish_columns(partial, cut.slabs, 1, columns, outputs, stream);
}

template void add_column_sums(const Queue&, std::int64_t, std::int64_t, std::int64_t, const float*,
                              float*);
template void add_column_sums(const Queue&, std::int64_t, std::int64_t, std::int64_t, const bf16*,
                              float*);

}  // namespace tessera::kernels::cuda
