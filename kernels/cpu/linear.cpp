// Linear layers: matrix products, and the bias and its gradient as vector passes.
#include "kernels/linear.h"

#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/gemm.h"

namespace tessera::kernels::cpu {
namespace {

// Every row of y [rows, out] = bias.
template <typename T>
void fill_rows(std::int64_t rows, std::int64_t out, const T* bias, T* y) {
  parallel_ranges(rows, 1, kSerialElements / (out + 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      std::memcpy(y + r * out, bias, static_cast<std::size_t>(out) * sizeof(T));
  });
}

// sums[j] += dy[r, j] over rows, eight rows at a time; the order does not depend on threads.
template <typename T>
void add_rows(std::int64_t rows, std::int64_t out, const T* dy, T* sums) {
  const auto columns = [&](std::int64_t begin, std::int64_t end) {
    std::int64_t r = 0;
    for (; r + 8 <= rows; r += 8)
      vector_loop<T>(end - begin, [&](std::int64_t j, auto part) {
        const T* x = dy + r * out + begin + j;
        const Vec<T> low = (load(x, part) + load(x + out, part)) +
                           (load(x + 2 * out, part) + load(x + 3 * out, part));
        const Vec<T> high = (load(x + 4 * out, part) + load(x + 5 * out, part)) +
                            (load(x + 6 * out, part) + load(x + 7 * out, part));
        store(sums + begin + j, load(sums + begin + j, part) + (low + high), part);
      });
    for (; r < rows; ++r)
      vector_loop<T>(end - begin, [&](std::int64_t j, auto part) {
        T* sum = sums + begin + j;
        store(sum, load(sum, part) + load(dy + r * out + begin + j, part), part);
      });
  };
  parallel_ranges(out, kLanes<T>, rows * out < kSerialElements ? out + 1 : 0, columns);
}

}  // namespace

template <typename T>
void linear_forward(const LinearForward<T>& a) {
  if (a.bias) fill_rows(a.rows, a.out, a.bias, a.y);
  Gemm<T> g;
  g.transpose_b = true;
  g.m = a.rows, g.n = a.out, g.k = a.in;
  g.a = a.x, g.lda = a.in;
  g.b = a.weight, g.ldb = a.in;
  g.c = a.y, g.ldc = a.out;
  g.beta = a.bias ? T{1} : T{0};
  gemm(g);
}

template <typename T>
void linear_backward(const LinearBackward<T>& a) {
  if (a.dx) {
    Gemm<T> g;
    g.m = a.rows, g.n = a.in, g.k = a.out;
    g.a = a.dy, g.lda = a.out;
    g.b = a.weight, g.ldb = a.in;
    g.c = a.dx, g.ldc = a.in;
    g.beta = a.accumulate_dx ? T{1} : T{0};
    gemm(g);
  }
  if (a.dweight) {
    Gemm<T> g;
    g.transpose_a = true;
    g.m = a.out, g.n = a.in, g.k = a.rows;
    g.a = a.dy, g.lda = a.out;
    g.b = a.x, g.ldb = a.in;
    g.c = a.dweight, g.ldc = a.in;
    g.beta = 1;
    gemm(g);
  }
  if (a.dbias) add_rows(a.rows, a.out, a.dy, a.dbias);
}

template void linear_forward(const LinearForward<float>&);
template void linear_forward(const LinearForward<double>&);
template void linear_backward(const LinearBackward<float>&);
template void linear_backward(const LinearBackward<double>&);

}  // namespace tessera::kernels::cpu
