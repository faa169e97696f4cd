// Matrix products and linear layers on CUDA. Row-major matrices are the transposes of what cuBLASLt
// sees: C = A B becomes C^T = B^T A^T, operands swapped.
#include "kernels/linear.h"

#include <functional>
#include <string>

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/libraries.cuh"
#include "kernels/cuda/timing.h"
#include "kernels/gemm.h"

namespace tessera::kernels::cuda {
namespace {

template <typename T>
constexpr Number number_of() {
  return std::is_same_v<T, bf16> ? Number::bf16 : Number::f32;
}

// What sums dy for the bias: a pass of its own, or the epilogue of the product that gives dW.
constexpr const char* kPass = "pass";
constexpr const char* kEpilogue = "epilogue";

// Recorded, measured, or (where the epilogue cannot run or nothing may be measured) the pass.
std::string choose_bias_gradient(const Queue& queue, const std::string& key, bool epilogue_possible,
                                 const std::function<void()>& pass,
                                 const std::function<void()>& epilogue) {
  Algorithms& algorithms = queue.libraries->algorithms;
  if (const Algorithms::Choice* recorded = algorithms.find(key)) {
    if (recorded->value != kPass && recorded->value != kEpilogue)
      throw Error(Category::data, "the recorded algorithm of \"" + key + "\" is \"" +
                                      recorded->value + "\", expected pass or epilogue");
    return recorded->value;
  }
  Algorithms::Choice choice{kPass, 0};
  if (epilogue_possible) {
    const auto time = [&](const std::function<void()>& run) {
      return median_microseconds(static_cast<cudaStream_t>(queue.stream), [&] {
        run();
        return true;
      });
    };
    choice.microseconds = time(pass);
    if (const double other = time(epilogue); other < choice.microseconds)
      choice = {kEpilogue, other};
  }
  algorithms.set(key, choice);
  return choice.value;
}

// dW^T [in, out] += x^T dy and db += sums of dy's columns, in float.
template <typename T>
void parameter_gradients(const Queue& queue, const LinearBackward<T>& args, std::int64_t stride) {
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
  const GemmOperands operands{args.x, args.dy, nullptr, nullptr, args.dweight, nullptr, 1.0f, 1.0f};
  if (!args.dbias) return run_gemm(queue, shape, operands);
  const auto pass = [&] {
    run_gemm(queue, shape, operands);
    add_column_sums(queue, args.rows, args.out, stride, args.dy, args.dbias);
  };

  // The epilogue overwrites its vector: it gets the end of the workspace, the product the rest.
  const std::int64_t bytes = args.out * static_cast<std::int64_t>(sizeof(float));
  Queue rest = queue;
  rest.workspace_bytes = (queue.workspace_bytes - bytes) / 256 * 256;
  TESSERA_CHECK(queue.libraries && rest.workspace_bytes >= 0);
  auto* sums = reinterpret_cast<float*>(queue.workspace + rest.workspace_bytes);
  GemmShape summing = shape;
  summing.sums = true;
  GemmOperands summed = operands;
  summed.sums = sums;
  const auto epilogue = [&] {
    run_gemm(rest, summing, summed);
    add_sums(queue, args.out, sums, args.dbias);
  };

  const std::string key = "bias gradient, " + shape.key();
  const bool possible = may_measure(queue) && !queue.libraries->algorithms.find(key) &&
                        plan_gemm(rest, summing, summed).usable();
  if (choose_bias_gradient(queue, key, possible, pass, epilogue) == kEpilogue)
    epilogue();
  else
    pass();
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
           {args.b, args.a, args.c, nullptr, args.c, nullptr, static_cast<float>(args.alpha),
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
  run_gemm(
      queue, shape,
      {args.weight, args.x, args.add, args.bias, args.y, nullptr, 1.0f, args.add ? 1.0f : 0.0f});
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
    run_gemm(queue, shape, {args.weight, args.dy, nullptr, nullptr, args.dx, nullptr, 1.0f, 0.0f});
  }
  if (args.rows == 0 || args.out == 0) return;
  if (args.dweight && args.in > 0)
    parameter_gradients(queue, args, stride);
  else if (args.dbias)
    add_column_sums(queue, args.rows, args.out, stride, args.dy, args.dbias);
}

template void gemm(const Queue&, const Gemm<float>&);
template void gemm(const Queue&, const Gemm<bf16>&);
template void linear_forward(const Queue&, const LinearForward<float>&);
template void linear_forward(const Queue&, const LinearForward<bf16>&);
template void linear_backward(const Queue&, const LinearBackward<float>&);
template void linear_backward(const Queue&, const LinearBackward<bf16>&);

}  // namespace tessera::kernels::cuda
