// Transposition of many matrices, tile by tile, so that both sides of a tile stay in the cache.
#include "kernels/transpose.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace tessera::kernels::cpu {
namespace {

constexpr std::int64_t kTile = 32;

template <typename T>
void transpose_one(const T* from, std::int64_t rows, std::int64_t columns, T* to) {
  for (std::int64_t r0 = 0; r0 < rows; r0 += kTile)
    for (std::int64_t c0 = 0; c0 < columns; c0 += kTile) {
      const std::int64_t r1 = std::min(rows, r0 + kTile), c1 = std::min(columns, c0 + kTile);
      for (std::int64_t c = c0; c < c1; ++c)
        for (std::int64_t r = r0; r < r1; ++r) to[c * rows + r] = from[r * columns + c];
    }
}

}  // namespace

template <typename T>
void transpose(const Transpose<T>& a) {
  const std::int64_t size = a.rows * a.columns;
  parallel_ranges(a.matrices, 1, kSerialElements / (size + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t m = begin; m < end; ++m)
                      transpose_one(a.from + m * size, a.rows, a.columns, a.to + m * size);
                  });
}

template void transpose(const Transpose<float>&);
template void transpose(const Transpose<double>&);

}  // namespace tessera::kernels::cpu
