// Matrix products: the linear algebra library's for float, our own loop for double.
#include "kernels/gemm.h"

#include <algorithm>
#include <string>

#include "core/integers.h"
#include "kernels/cpu/openblas.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

#if defined(TESSERA_GEMM_ONEDNN)
#include <dnnl.h>
#else
#include <cblas.h>
#include <dlfcn.h>
#endif

namespace tessera::kernels::cpu {
namespace {

template <typename T>
void scale(const Gemm<T>& g) {
  for (std::int64_t i = 0; i < g.m; ++i)
    for (std::int64_t j = 0; j < g.n; ++j) {
      T& c = g.c[i * g.ldc + j];
      c = g.beta == 0 ? T{0} : g.beta * c;
    }
}

template <typename T>
bool without_product(const Gemm<T>& g) {
  TESSERA_CHECK(g.m >= 0 && g.n >= 0 && g.k >= 0);
  if (g.m == 0 || g.n == 0) return true;
  if (g.k > 0) return false;
  scale(g);
  return true;
}

// Rows [begin, end) of C, in panels of op(B) that stay in cache. op(A) is read element by element.
void double_rows(const Gemm<double>& g, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kDepth = 128, kWidth = 64;
  struct Panel;
  double* panel = scratch<double, Panel>(kDepth * kWidth);
  Gemm<double> rows = g;
  rows.m = end - begin;
  rows.c = g.c + begin * g.ldc;
  if (g.beta != 1) scale(rows);
  for (std::int64_t k0 = 0; k0 < g.k; k0 += kDepth) {
    const std::int64_t depth = std::min(kDepth, g.k - k0);
    for (std::int64_t j0 = 0; j0 < g.n; j0 += kWidth) {
      const std::int64_t width = std::min(kWidth, g.n - j0);
      for (std::int64_t k = 0; k < depth; ++k)
        for (std::int64_t j = 0; j < width; ++j)
          panel[k * kWidth + j] =
              g.transpose_b ? g.b[(j0 + j) * g.ldb + k0 + k] : g.b[(k0 + k) * g.ldb + j0 + j];
      for (std::int64_t i = begin; i < end; ++i) {
        double sums[kWidth] = {};
        for (std::int64_t k = 0; k < depth; ++k) {
          const double a = g.transpose_a ? g.a[(k0 + k) * g.lda + i] : g.a[i * g.lda + k0 + k];
          vector_loop<double>(width, [&](std::int64_t j, auto part) {
            store(sums + j, load(sums + j, part) + a * load(panel + k * kWidth + j, part), part);
          });
        }
        for (std::int64_t j = 0; j < width; ++j) g.c[i * g.ldc + j0 + j] += g.alpha * sums[j];
      }
    }
  }
}

}  // namespace

template <>
void gemm(const Gemm<double>& g) {
  if (without_product(g)) return;
  parallel_ranges(g.m, 1, g.n * g.k > kSerialElements ? 2 : g.m + 1,
                  [&](std::int64_t begin, std::int64_t end) { double_rows(g, begin, end); });
}

#if defined(TESSERA_GEMM_ONEDNN)

template <>
void gemm(const Gemm<float>& g) {
  if (without_product(g)) return;
  const dnnl_status_t status =
      dnnl_sgemm(g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.m, g.n, g.k, g.alpha, g.a,
                 g.lda, g.b, g.ldb, g.beta, g.c, g.ldc);
  if (status != dnnl_success)
    throw Error(Category::internal, "gemm: dnnl_sgemm refused m = " + std::to_string(g.m) +
                                        ", n = " + std::to_string(g.n) +
                                        ", k = " + std::to_string(g.k) + " (status " +
                                        std::to_string(static_cast<int>(status)) + ")");
}

const char* gemm_library() {
  static const std::string text = [] {
    const dnnl_version_t* version = dnnl_version();
    return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
           std::to_string(version->patch);
  }();
  return text.c_str();
}

// oneDNN generates its kernels for the processor it finds.
const char* gemm_warning() {
  return "";
}

#else

template <>
void gemm(const Gemm<float>& g) {
  if (without_product(g)) return;
  cblas_sgemm(CblasRowMajor, g.transpose_a ? CblasTrans : CblasNoTrans,
              g.transpose_b ? CblasTrans : CblasNoTrans, narrow<int>(g.m), narrow<int>(g.n),
              narrow<int>(g.k), g.alpha, g.a, narrow<int>(g.lda), g.b, narrow<int>(g.ldb), g.beta,
              g.c, narrow<int>(g.ldc));
}

namespace {

// A text that OpenBLAS reports about itself; "" from any other CBLAS.
std::string openblas(const char* function) {
  using Text = char* (*)();
  const auto call = reinterpret_cast<Text>(dlsym(RTLD_DEFAULT, function));
  return call ? call() : "";
}

}  // namespace

const char* gemm_library() {
  static const std::string text = [] {
    // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ... "
    const std::string config = openblas("openblas_get_config");
    if (config.empty()) return std::string("CBLAS");
    const std::size_t version = config.find(' ') + 1;
    return config.substr(0, config.find(' ', version)) + " (" + openblas("openblas_get_corename") +
           ")";
  }();
  return text.c_str();
}

const char* gemm_warning() {
  static const std::string text = [] {
    return openblas_warning(
        openblas("openblas_get_corename"),
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"),
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
  }();
  return text.c_str();
}

#endif

}  // namespace tessera::kernels::cpu
