// Transposition of many matrices through tiles in shared memory: both global sides of a tile are
// read and written along their rows. A tile is as narrow as the matrix's shorter side (up to 32)
// and 256 long, so that a block of few embeddings fills it.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/launch.cuh"
#include "kernels/transpose.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kNarrow = 32, kLong = 256;
// What is moved is bits: shared memory takes no type with a constructor.
template <typename T>
using Word = std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint32_t>;
// A row of a tile is an element longer than what it holds: columns then lie in different banks.
constexpr int kTileElements = kLong * (kNarrow + 1);
static_assert(kNarrow * (kLong + 1) <= kTileElements);

struct Tiles {
  int rows, columns;                     // of a tile
  std::int64_t across, a_matrix, total;  // tiles along a row, in a matrix, in all
};

template <typename W>
__global__ void __launch_bounds__(kBlockThreads) turn(const Transpose<W> a, const Tiles t) {
  __shared__ W tile[kTileElements];
  for (std::int64_t i = blockIdx.x; i < t.total; i += gridDim.x) {
    const std::int64_t matrix = i / t.a_matrix, at = i % t.a_matrix;
    const std::int64_t row = at / t.across * t.rows, column = at % t.across * t.columns;
    const int height = static_cast<int>(min(static_cast<std::int64_t>(t.rows), a.rows - row));
    const int length =
        static_cast<int>(min(static_cast<std::int64_t>(t.columns), a.columns - column));
    const W* const from = a.from + (matrix * a.rows + row) * a.columns + column;
    for (int e = threadIdx.x; e < height * length; e += kBlockThreads) {
      const int r = e / length, c = e % length;
      tile[r * (t.columns + 1) + c] = from[r * a.columns + c];
    }
    __syncthreads();
    W* const to = a.to + (matrix * a.columns + column) * a.rows + row;
    for (int e = threadIdx.x; e < height * length; e += kBlockThreads) {
      const int c = e / height, r = e % height;
      to[c * a.rows + r] = tile[r * (t.columns + 1) + c];
    }
    __syncthreads();
  }
}

}  // namespace

template <typename T>
void transpose(const Queue& queue, const Transpose<T>& a) {
  if (a.matrices * a.rows * a.columns <= 0) return;
  const bool flat = a.rows <= a.columns;
  Tiles t;
  t.rows = static_cast<int>(std::min<std::int64_t>(a.rows, flat ? kNarrow : kLong));
  t.columns = static_cast<int>(std::min<std::int64_t>(a.columns, flat ? kLong : kNarrow));
  t.across = (a.columns + t.columns - 1) / t.columns;
  t.a_matrix = t.across * ((a.rows + t.rows - 1) / t.rows);
  t.total = t.a_matrix * a.matrices;
  const int blocks = grid_blocks(std::min<std::int64_t>(t.total, 1 << 20) * kBlockThreads);
  const Transpose<Word<T>> words{a.matrices, a.rows, a.columns,
                                 reinterpret_cast<const Word<T>*>(a.from),
                                 reinterpret_cast<Word<T>*>(a.to)};
  turn<<<blocks, kBlockThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(words, t);
  check_launch("transpose");
}

template void transpose(const Queue&, const Transpose<float>&);
template void transpose(const Queue&, const Transpose<bf16>&);

}  // namespace tessera::kernels::cuda
