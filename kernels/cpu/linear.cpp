// Linear layers: matrix products, and the bias and its gradient as vector passes.
#include "kernels/linear.h"

#include <cstring>

#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/gemm.h"

namespace tessera::kernels::cpu {
namespace {

// What the product is added to: every row of y = bias, add, or their sum.
template <typename T>
void fill_rows(const LinearForward<T>& a, std::int64_t stride) {
  const auto bytes = static_cast<std::size_t>(a.out) * sizeof(T);
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      T* y = a.y + r * stride;
      const T* add = a.add ? a.add + r * a.out : nullptr;
      if (add && a.bias)
        vector_loop<T>(a.out, [&](std::int64_t j, auto part) {
          store(y + j, load(add + j, part) + load(a.bias + j, part), part);
        });
      else if (const T* from = add ? add : a.bias; from != y)
        std::memcpy(y, from, bytes);
    }
  };
  parallel_ranges(a.rows, 1, kSerialElements / (a.out + 1), rows);
}

}  // namespace

template <typename T>
void linear_forward(const LinearForward<T>& a) {
  const std::int64_t stride = a.y_stride ? a.y_stride : a.out;
  if (a.bias || a.add) fill_rows(a, stride);
  Gemm<T> g;
  g.transpose_b = true;
  g.m = a.rows, g.n = a.out, g.k = a.in;
  g.a = a.x, g.lda = a.in;
  g.b = a.weight, g.ldb = a.in;
  g.c = a.y, g.ldc = stride;
  g.beta = a.bias || a.add ? T{1} : T{0};
  gemm(g);
}

template <typename T>
void linear_backward(const LinearBackward<T>& a) {
  const std::int64_t stride = a.y_stride ? a.y_stride : a.out;
  if (a.dx) {
    Gemm<T> g;
    g.m = a.rows, g.n = a.in, g.k = a.out;
    g.a = a.dy, g.lda = stride;
    g.b = a.weight, g.ldb = a.in;
    g.c = a.dx, g.ldc = a.in;
    gemm(g);
  }
  if (a.dweight) {
    Gemm<T> g;
    g.transpose_a = true;
    g.m = a.out, g.n = a.in, g.k = a.rows;
    g.a = a.dy, g.lda = stride;
    g.b = a.x, g.ldb = a.in;
    g.c = a.dweight, g.ldc = a.in;
    g.beta = 1;
    gemm(g);
  }
  if (a.dbias) add_rows(a.rows, a.out, stride, a.dy, a.dbias);
}

template void linear_forward(const LinearForward<float>&);
template void linear_forward(const LinearForward<double>&);
template void linear_backward(const LinearBackward<float>&);
template void linear_backward(const LinearBackward<double>&);

}  // namespace tessera::kernels::cpu
