// Matrix products and linear layers on CUDA. Row-major matrices are the transposes of what cuBLASLt
// sees: C = A B becomes C^T = B^T A^T, operands swapped.
#include "kernels/linear.h"

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/gemm.h"

namespace tessera::kernels::cuda {
namespace {

template <typename T>
constexpr Number number_of() {
  return std::is_same_v<T, bf16> ? Number::bf16 : Number::f32;
}

}  // namespace

template <typename T>
void gemm(const Queue& queue, const Gemm<T>& args) {
  GemmShape shape;
  shape.input = shape.output = number_of<T>();
  shape.transpose_a = args.transpose_b;
  shape.transpose_b = args.transpose_a;
  shape.m = args.n;
  shape.n = args.m;
  shape.k = args.k;
  shape.lda = args.ldb;
  shape.ldb = args.lda;
  shape.ldd = args.ldc;
  shape.add = args.beta != 0;
  shape.alignment = common_alignment({args.a, args.b, args.c});
  run_gemm(queue, shape,
           {args.b, args.a, args.c, nullptr, args.c, static_cast<float>(args.alpha),
            static_cast<float>(args.beta)});
}

template <typename T>
void linear_forward(const Queue& queue, const LinearForward<T>& args) {
  // y^T [out, rows] = W (stored as W^T) x^T + b.
  GemmShape shape;
  shape.input = shape.output = number_of<T>();
  shape.transpose_a = true;
  shape.m = args.out;
  shape.n = args.rows;
  shape.k = shape.lda = shape.ldb = args.in;
  shape.ldd = args.y_stride ? args.y_stride : args.out;
  shape.ldc = args.add ? args.out : 0;
  shape.bias = args.bias != nullptr;
  shape.add = args.add != nullptr;
  TESSERA_CHECK(!args.add || args.add != args.y || shape.ldd == args.out);
  shape.alignment = common_alignment({args.x, args.weight, args.bias, args.add, args.y});
  run_gemm(queue, shape,
           {args.weight, args.x, args.add, args.bias, args.y, 1.0f, args.add ? 1.0f : 0.0f});
}

template <typename T>
void linear_backward(const Queue& queue, const LinearBackward<T>& args) {
  const std::int64_t stride = args.y_stride ? args.y_stride : args.out;
  if (args.dx) {
    // dx^T [in, rows] = W^T dy^T.
    GemmShape shape;
    shape.input = shape.output = number_of<T>();
    shape.m = shape.lda = shape.ldd = args.in;
    shape.n = args.rows;
    shape.k = args.out;
    shape.ldb = stride;
    shape.alignment = common_alignment({args.weight, args.dy, args.dx});
    run_gemm(queue, shape, {args.weight, args.dy, nullptr, nullptr, args.dx, 1.0f, 0.0f});
  }
  if (args.dweight) {
    // dW^T [in, out] += x^T dy, in float.
    GemmShape shape;
    shape.input = number_of<T>();
    shape.output = Number::f32;
    shape.transpose_b = true;
    shape.m = shape.lda = shape.ldd = args.in;
    shape.n = args.out;
    shape.k = args.rows;
    shape.ldb = stride;
    shape.add = true;
    shape.alignment = common_alignment({args.x, args.dy, args.dweight});
    if (args.rows > 0)
      run_gemm(queue, shape, {args.x, args.dy, args.dweight, nullptr, args.dweight, 1.0f, 1.0f});
  }
  if (args.dbias) add_column_sums(queue, args.rows, args.out, stride, args.dy, args.dbias);
}

template void gemm(const Queue&, const Gemm<float>&);
template void gemm(const Queue&, const Gemm<bf16>&);
template void linear_forward(const Queue&, const LinearForward<float>&);
template void linear_forward(const Queue&, const LinearForward<bf16>&);
template void linear_backward(const Queue&, const LinearBackward<float>&);
template void linear_backward(const Queue&, const LinearBackward<bf16>&);

}  // namespace tessera::kernels::cuda
