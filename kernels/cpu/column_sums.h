// Sums over the rows of a matrix: the gradient of a bias.
#pragma once

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {

// sums[j] += dy[r, j] over rows (`stride` apart), eight rows at a time; the order does not depend
// on threads.
template <typename T>
void add_rows(std::int64_t rows, std::int64_t out, std::int64_t stride, const T* dy, T* sums) {
  const auto columns = [&](std::int64_t begin, std::int64_t end) {
    std::int64_t r = 0;
    for (; r + 8 <= rows; r += 8)
      vector_loop<T>(end - begin, [&](std::int64_t j, auto part) {
        const T* x = dy + r * stride + begin + j;
        const Vec<T> low = (load(x, part) + load(x + stride, part)) +
                           (load(x + 2 * stride, part) + load(x + 3 * stride, part));
        const Vec<T> high = (load(x + 4 * stride, part) + load(x + 5 * stride, part)) +
                            (load(x + 6 * stride, part) + load(x + 7 * stride, part));
        store(sums + begin + j, load(sums + begin + j, part) + (low + high), part);
      });
    for (; r < rows; ++r)
      vector_loop<T>(end - begin, [&](std::int64_t j, auto part) {
        T* sum = sums + begin + j;
        store(sum, load(sum, part) + load(dy + r * stride + begin + j, part), part);
      });
  };
  parallel_ranges(out, kLanes<T>, rows * out < kSerialElements ? out + 1 : 0, columns);
}

}  // namespace tessera::kernels::cpu
