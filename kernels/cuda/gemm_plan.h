// One matrix-product shape ready to run in cuBLASLt: descriptors, and the algorithm that was
// recorded, measured, or proposed first (kernels/libraries.h).
//
// Column-major, as the library has it: D [m, n] = alpha op(A) op(B) + beta C. Callers with
// row-major matrices swap the operands.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "kernels/algorithms.h"
#include "kernels/queue.h"

namespace tessera::kernels::cuda {

enum class Number { f32, bf16 };

// The sizes that decide an algorithm.
struct GemmShape {
  Number input = Number::f32, output = Number::f32;  // of A and B; of C, D and bias
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0, lda = 0, ldb = 0, ldd = 0;
  std::int64_t ldc = 0;  // 0: D's; another one only where C and D are different memory
  bool bias = false;     // [m], added to every column of D
  bool add = false;      // beta is not zero
  int alignment = 16;    // bytes that all pointers are multiples of

  // "gemm bf16 -> f32 TN 3072 768 32768 ld 768 768 3072 bias add align 16"
  std::string key() const;
};

struct GemmOperands {
  const void *a = nullptr, *b = nullptr, *c = nullptr, *bias = nullptr;  // c: null for d
  void* d = nullptr;
  float alpha = 1, beta = 0;
};

class GemmPlan {
 public:
  GemmPlan(const Queue& queue, const GemmShape& shape, const GemmOperands& operands);

  // Error{device} with the shape and the library's reason.
  void run(const Queue& queue, const GemmOperands& operands) const;

 private:
  cublasStatus_t enqueue(const Queue& queue, const GemmOperands& operands,
                         const cublasLtMatmulAlgo_t& algorithm) const;
  void describe(const GemmShape& shape);
  void recall(const Queue& queue, const Algorithms::Choice& recorded);
  void choose(const Queue& queue, const GemmShape& shape, const GemmOperands& operands);
  [[noreturn]] void fail(const char* what, cublasStatus_t status) const;

  struct Destroy {
    void operator()(cublasLtMatmulDesc_t it) const { cublasLtMatmulDescDestroy(it); }
    void operator()(cublasLtMatrixLayout_t it) const { cublasLtMatrixLayoutDestroy(it); }
  };
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy>;

  std::string key_;
  std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy> operation_;
  Layout a_, b_, c_, d_;
  cublasLtMatmulAlgo_t algorithm_{};
};

// Runs the product, making (and keeping) the plan at a shape's first use.
void run_gemm(const Queue& queue, const GemmShape& shape, const GemmOperands& operands);

// Largest of 16, 8, 4, 2 that divides all addresses (null ones count as aligned).
int common_alignment(std::initializer_list<const void*> pointers);

}  // namespace tessera::kernels::cuda
