#include "kernels/cuda/gemm_plan.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

#include "core/cuda_check.h"
#include "core/error.h"
#include "kernels/cuda/libraries.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kCandidates = 16;

cudaDataType_t type_of(Number number) {
  return number == Number::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}
const char* name_of(Number number) {
  return number == Number::bf16 ? "bf16" : "f32";
}

// The opaque algorithm as hexadecimal digits.
std::string to_text(const cublasLtMatmulAlgo_t& algorithm) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  std::array<unsigned char, sizeof(algorithm)> bytes;
  std::memcpy(bytes.data(), &algorithm, sizeof(algorithm));
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

cublasLtMatmulAlgo_t from_text(const std::string& text, const std::string& key) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  cublasLtMatmulAlgo_t algorithm{};
  std::array<unsigned char, sizeof(algorithm)> bytes;
  bool good = text.size() == 2 * bytes.size();
  for (std::size_t i = 0; good && i < bytes.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    good = high >= 0 && low >= 0;
    bytes[i] = static_cast<unsigned char>(high * 16 + low);
  }
  if (!good)
    throw Error(Category::data,
                "the recorded algorithm of \"" + key + "\" is not one; remove RUN/algorithms.json");
  std::memcpy(&algorithm, bytes.data(), bytes.size());
  return algorithm;
}

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "asking whether a stream captures");
  return status != cudaStreamCaptureStatusNone;
}

// Milliseconds: the median of several runs after one that does not count; infinite when it fails.
template <typename Run>
double measure(cudaStream_t stream, Run run) {
  constexpr int kRuns = 5;
  if (run() != CUBLAS_STATUS_SUCCESS) return std::numeric_limits<double>::infinity();
  cudaEvent_t begin = nullptr, end = nullptr;
  check_cuda(cudaEventCreate(&begin), "creating an event");
  check_cuda(cudaEventCreate(&end), "creating an event");
  std::array<float, kRuns> times{};
  for (float& time : times) {
    check_cuda(cudaEventRecord(begin, stream), "timing a matrix product");
    run();
    check_cuda(cudaEventRecord(end, stream), "timing a matrix product");
    check_cuda(cudaEventSynchronize(end), "timing a matrix product");
    check_cuda(cudaEventElapsedTime(&time, begin, end), "timing a matrix product");
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return static_cast<double>(times[kRuns / 2]);
}

}  // namespace

std::string GemmShape::key() const {
  return std::string("gemm ") + name_of(input) + " -> " + name_of(output) + " " +
         (transpose_a ? "T" : "N") + (transpose_b ? "T" : "N") + " " + std::to_string(m) + " " +
         std::to_string(n) + " " + std::to_string(k) + " ld " + std::to_string(lda) + " " +
         std::to_string(ldb) + " " + std::to_string(ldc) + (bias ? " bias" : "") +
         (add ? " add" : "") + " align " + std::to_string(alignment);
}

int common_alignment(std::initializer_list<const void*> pointers) {
  std::uintptr_t all = 16;
  for (const void* p : pointers) all |= reinterpret_cast<std::uintptr_t>(p);
  return static_cast<int>(all & (~all + 1));
}

GemmPlan::GemmPlan(const Queue& queue, const GemmShape& shape, const GemmOperands& operands)
    : key_(shape.key()) {
  describe(shape);
  choose(queue, shape, operands);
}

GemmPlan::~GemmPlan() {
  if (d_) cublasLtMatrixLayoutDestroy(d_);
  if (b_) cublasLtMatrixLayoutDestroy(b_);
  if (a_) cublasLtMatrixLayoutDestroy(a_);
  if (operation_) cublasLtMatmulDescDestroy(operation_);
}

void GemmPlan::fail(const char* what, cublasStatus_t status) const {
  throw Error(Category::device,
              key_ + ": cuBLASLt: " + what + ": " + cublasLtGetStatusString(status));
}

void GemmPlan::describe(const GemmShape& shape) {
  const auto check = [&](cublasStatus_t status) {
    if (status != CUBLAS_STATUS_SUCCESS) fail("describing it", status);
  };
  // float in, float out: plain fp32 arithmetic, never TF32.
  check(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, shape.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, shape.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (shape.bias) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(shape.output));
  }
  const auto layout = [&](cublasLtMatrixLayout_t& it, Number number, bool transposed,
                          std::int64_t rows, std::int64_t columns, std::int64_t stride) {
    check(cublasLtMatrixLayoutCreate(
        &it, type_of(number), static_cast<std::uint64_t>(transposed ? columns : rows),
        static_cast<std::uint64_t>(transposed ? rows : columns), stride));
  };
  layout(a_, shape.input, shape.transpose_a, shape.m, shape.k, shape.lda);
  layout(b_, shape.input, shape.transpose_b, shape.k, shape.n, shape.ldb);
  layout(d_, shape.output, false, shape.m, shape.n, shape.ldc);
}

void GemmPlan::choose(const Queue& queue, const GemmShape& shape, const GemmOperands& operands) {
  Libraries& libraries = *queue.libraries;
  if (const Algorithms::Choice* recorded = libraries.algorithms.find(key_)) {
    algorithm_ = from_text(recorded->value, key_);
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status =
        cublasLtMatmulAlgoCheck(libraries.lt, operation_, a_, b_, d_, d_, &algorithm_, &result);
    if (status != CUBLAS_STATUS_SUCCESS ||
        result.workspaceSize > static_cast<std::size_t>(queue.workspace_bytes))
      fail("refuses the recorded algorithm (another GPU or library? remove RUN/algorithms.json)",
           status);
    return;
  }
  cublasLtMatmulPreference_t preference = nullptr;
  cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
  if (status != CUBLAS_STATUS_SUCCESS) fail("asking for algorithms", status);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::size_t>(queue.workspace_bytes));
  // Parts of a split product are added in float and in one order, never in the output's type or by
  // atomic additions.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  const auto alignment = static_cast<std::uint32_t>(shape.alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> candidates{};
  int found = 0;
  status = cublasLtMatmulAlgoGetHeuristic(libraries.lt, operation_, a_, b_, d_, d_, preference,
                                          kCandidates, candidates.data(), &found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0) fail("has no algorithm for it", status);

  algorithm_ = candidates[0].algo;
  double best = 0;
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  if (libraries.may_measure && !is_capturing(stream)) {
    best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < found; ++i) {
      const cublasLtMatmulAlgo_t& candidate = candidates[static_cast<std::size_t>(i)].algo;
      const double time = measure(stream, [&] { return enqueue(queue, operands, candidate); });
      if (time >= best) continue;
      best = time;
      algorithm_ = candidate;
    }
  }
  libraries.algorithms.set(key_, {to_text(algorithm_), 1e3 * best});
}

cublasStatus_t GemmPlan::enqueue(const Queue& queue, const GemmOperands& operands,
                                 const cublasLtMatmulAlgo_t& algorithm) const {
  if (operands.bias)
    cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &operands.bias,
                                   sizeof(operands.bias));
  return cublasLtMatmul(queue.libraries->lt, operation_, &operands.alpha, operands.a, a_,
                        operands.b, b_, &operands.beta, operands.c ? operands.c : operands.d, d_,
                        operands.d, d_, &algorithm, queue.workspace,
                        static_cast<std::size_t>(queue.workspace_bytes),
                        static_cast<cudaStream_t>(queue.stream));
}

void GemmPlan::run(const Queue& queue, const GemmOperands& operands) const {
  if (const cublasStatus_t status = enqueue(queue, operands, algorithm_);
      status != CUBLAS_STATUS_SUCCESS)
    fail("running it", status);
}

void run_gemm(const Queue& queue, const GemmShape& shape, const GemmOperands& operands) {
  if (shape.m == 0 || shape.n == 0) return;
  if (!queue.libraries) throw Error(Category::device, shape.key() + ": no libraries opened");
  std::shared_ptr<GemmPlan>& plan = queue.libraries->gemm_plans[shape.key()];
  if (!plan) plan = std::make_shared<GemmPlan>(queue, shape, operands);
  plan->run(queue, operands);
}

}  // namespace tessera::kernels::cuda
