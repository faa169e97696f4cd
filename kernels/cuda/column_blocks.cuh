// A matrix cut for passes that read rows and sum columns: a block takes 32 vectors of columns (or
// 32 columns where vectors do not fit) and a slab of rows, eight rows at a time; each thread owns
// its columns and sums them in registers. How it is cut depends on the shape alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/queue.h"

namespace tessera::kernels::cuda {

inline constexpr int kRowLanes = 8;

struct ColumnBlocks {
  std::int64_t rows = 0, columns = 0;
  int slabs = 1;  // parts of the rows
  dim3 grid, block;

  // `lanes`: columns a thread.
  ColumnBlocks(std::int64_t row_count, std::int64_t column_count, int lanes)
      : rows(row_count), columns(column_count) {
    constexpr std::int64_t kBlocks = 2112;  // 16 a processor of the largest devices
    constexpr std::int64_t kLeastRows = 4 * kRowLanes;
    const std::int64_t across = (columns + 32 * lanes - 1) / (32 * lanes);
    const std::int64_t most = (rows + kLeastRows - 1) / kLeastRows;
    slabs = static_cast<int>(
        std::max<std::int64_t>(1, std::min({most, kBlocks / across, std::int64_t{512}})));
    grid = dim3(static_cast<unsigned>(across), static_cast<unsigned>(slabs));
    block = dim3(32, kRowLanes);
  }
  std::int64_t partial_bytes() const {
    return static_cast<std::int64_t>(slabs) * columns * static_cast<std::int64_t>(sizeof(float));
  }
};

// Calls visit(row, first column, sums) for this thread's rows, then leaves the block's sums in
// partial[slab][columns].
template <int lanes, typename Visit>
__device__ __forceinline__ void visit_columns(std::int64_t rows, std::int64_t columns,
                                              float* __restrict__ partial, Visit visit) {
  __shared__ float scratch[kRowLanes][32 * lanes + 1];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * 32 + x) * lanes;
  const std::int64_t slabs = gridDim.y, slab = blockIdx.y;
  const std::int64_t begin = rows * slab / slabs, end = rows * (slab + 1) / slabs;
  float sums[lanes] = {};
  if (first < columns) {
#pragma unroll 4
    for (std::int64_t r = begin + y; r < end; r += kRowLanes) visit(r, first, sums);
  }
  if (!partial) return;
#pragma unroll
  for (int i = 0; i < lanes; ++i) scratch[y][x * lanes + i] = sums[i];
  __syncthreads();
  for (int c = y * 32 + x; c < 32 * lanes; c += 32 * kRowLanes) {
    const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * 32 * lanes + c;
    if (column >= columns) continue;
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kRowLanes; ++i) total += scratch[i][c];
    partial[slab * columns + column] = total;
  }
}

}  // namespace tessera::kernels::cuda
