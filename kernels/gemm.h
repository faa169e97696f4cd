// Matrix product C = alpha op(A) op(B) + beta C, row-major; op(X) = X or X transposed.
//
// op(A) is [m, k], op(B) [k, n], C [m, n]; lda, ldb, ldc are the row strides, in elements, of A, B
// and C as stored. float: oneDNN's dnnl_sgemm (or CBLAS); double: our own loop, for tests.
// CUDA: cuBLASLt, bf16 accumulated in float, float without TF32.
// beta = 0 does not read C.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct Gemm {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  std::int64_t lda = 0;
  const T* b = nullptr;
  std::int64_t ldb = 0;
  T* c = nullptr;
  std::int64_t ldc = 0;
  Wide<T> alpha = 1, beta = 0;
};

namespace cpu {
template <typename T>
void gemm(const Gemm<T>& args);
// "oneDNN 2.6.3", "OpenBLAS 0.3.21 (SkylakeX)"; for the start-up lines.
const char* gemm_library();
// A sentence with the cure when the library runs kernels older than this processor, else "".
const char* gemm_warning();
}  // namespace cpu

namespace cuda {
template <typename T>
void gemm(const Queue& queue, const Gemm<T>& args);
}  // namespace cuda

template <typename T>
void gemm(const Queue& queue, const Gemm<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::gemm(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::gemm(args);
  refuse(queue, "gemm");
}

}  // namespace tessera::kernels
