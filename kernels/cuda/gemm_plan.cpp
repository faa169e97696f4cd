#include "kernels/cuda/gemm_plan.h"

#include <array>
#include <cstring>

#include "core/device_memory.h"
#include "core/error.h"
#include "kernels/cuda/libraries.cuh"
#include "kernels/cuda/timing.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kCandidates = 32;

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

}  // namespace

std::string GemmShape::key() const {
  return std::string("gemm ") + name_of(input) + " -> " + name_of(output) + " " +
         (transpose_a ? "T" : "N") + (transpose_b ? "T" : "N") + " " + std::to_string(m) + " " +
         std::to_string(n) + " " + std::to_string(k) + " ld " + std::to_string(lda) + " " +
         std::to_string(ldb) + " " + std::to_string(ldd) + (bias ? " bias" : "") +
         (add ? " add" : "") + (ldc && ldc != ldd ? " from " + std::to_string(ldc) : "") +
         " align " + std::to_string(alignment);
}

int common_alignment(std::initializer_list<const void*> pointers) {
  std::uintptr_t all = 16;
  for (const void* p : pointers) all |= reinterpret_cast<std::uintptr_t>(p);
  return static_cast<int>(all & (~all + 1));
}

GemmPlan::GemmPlan(const Queue& queue, const GemmShape& shape, const GemmOperands& operands)
    : key_(shape.key()) {
  describe(shape);
  if (const Algorithms::Choice* recorded = queue.libraries->algorithms.find(key_))
    recall(queue, *recorded);
  else
    choose(queue, shape, operands);
}

void GemmPlan::fail(const char* what, cublasStatus_t status) const {
  throw Error(Category::device,
              key_ + ": cuBLASLt " + what + ": " + cublasLtGetStatusString(status));
}

void GemmPlan::describe(const GemmShape& shape) {
  const auto check = [&](cublasStatus_t status) {
    if (status != CUBLAS_STATUS_SUCCESS) fail("cannot describe it", status);
  };
  // float in, float out: plain fp32 arithmetic, never TF32.
  cublasLtMatmulDesc_t operation = nullptr;
  check(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  operation_.reset(operation);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, shape.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, shape.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (shape.bias) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(shape.output));
    // Choosing an algorithm reads this address for its alignment alone, and every run sets its own:
    // an address that is aligned as well as the shape promises and no better.
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER,
        reinterpret_cast<const void*>(static_cast<std::uintptr_t>(shape.alignment)));
  }
  const auto layout = [&](Number number, bool transposed, std::int64_t rows, std::int64_t columns,
                          std::int64_t stride) {
    cublasLtMatrixLayout_t it = nullptr;
    check(cublasLtMatrixLayoutCreate(
        &it, type_of(number), static_cast<std::uint64_t>(transposed ? columns : rows),
        static_cast<std::uint64_t>(transposed ? rows : columns), stride));
    return Layout(it);
  };
  a_ = layout(shape.input, shape.transpose_a, shape.m, shape.k, shape.lda);
  b_ = layout(shape.input, shape.transpose_b, shape.k, shape.n, shape.ldb);
  c_ = layout(shape.output, false, shape.m, shape.n, shape.ldc ? shape.ldc : shape.ldd);
  d_ = layout(shape.output, false, shape.m, shape.n, shape.ldd);
}

void GemmPlan::recall(const Queue& queue, const Algorithms::Choice& recorded) {
  const Libraries& libraries = *queue.libraries;
  algorithm_ = from_text(recorded.value, key_);
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status = cublasLtMatmulAlgoCheck(
      libraries.lt, operation_.get(), a_.get(), b_.get(), c_.get(), d_.get(), &algorithm_, &result);
  if (status == CUBLAS_STATUS_SUCCESS &&
      result.workspaceSize <= static_cast<std::size_t>(queue.workspace_bytes))
    return;
  throw Error(Category::device,
              key_ + ": cuBLASLt " + std::to_string(cublasLtGetVersion()) + " on " +
                  device_info().name + " cannot run the algorithm recorded with " +
                  libraries.algorithms.library + " on " + libraries.algorithms.device + " (" +
                  (status == CUBLAS_STATUS_SUCCESS ? "it needs more workspace"
                                                   : cublasLtGetStatusString(status)) +
                  "); remove RUN/algorithms.json to choose again");
}

void GemmPlan::choose(const Queue& queue, const GemmShape& shape, const GemmOperands& operands) {
  Libraries& libraries = *queue.libraries;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
  if (status != CUBLAS_STATUS_SUCCESS) fail("cannot list algorithms", status);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::size_t>(queue.workspace_bytes));
  // Parts of a split product are added in float and in one order, never in the output's type or in
  // the output itself.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  const auto alignment = static_cast<std::uint32_t>(shape.alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> candidates{};
  int found = 0;
  status =
      cublasLtMatmulAlgoGetHeuristic(libraries.lt, operation_.get(), a_.get(), b_.get(), c_.get(),
                                     d_.get(), preference, kCandidates, candidates.data(), &found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0) fail("has no algorithm for it", status);

  algorithm_ = candidates[0].algo;
  double best = 0;
  if (may_measure(queue)) {
    const auto run = [&](int i) {
      status = enqueue(queue, operands, candidates[static_cast<std::size_t>(i)].algo);
      return status == CUBLAS_STATUS_SUCCESS;
    };
    const Fastest fastest = find_fastest(static_cast<cudaStream_t>(queue.stream), found, run);
    if (fastest.candidate < 0) fail("runs none of its algorithms for it", status);
    algorithm_ = candidates[static_cast<std::size_t>(fastest.candidate)].algo;
    best = fastest.microseconds;
  }
  libraries.algorithms.set(key_, {to_text(algorithm_), best});
}

cublasStatus_t GemmPlan::enqueue(const Queue& queue, const GemmOperands& operands,
                                 const cublasLtMatmulAlgo_t& algorithm) const {
  if (operands.bias) {
    const cublasStatus_t status = cublasLtMatmulDescSetAttribute(
        operation_.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &operands.bias, sizeof(operands.bias));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
  }
  return cublasLtMatmul(
      queue.libraries->lt, operation_.get(), &operands.alpha, operands.a, a_.get(), operands.b,
      b_.get(), &operands.beta, operands.c ? operands.c : operands.d, c_.get(), operands.d,
      d_.get(), &algorithm, queue.workspace, static_cast<std::size_t>(queue.workspace_bytes),
      static_cast<cudaStream_t>(queue.stream));
}

void GemmPlan::run(const Queue& queue, const GemmOperands& operands) const {
  if (const cublasStatus_t status = enqueue(queue, operands, algorithm_);
      status != CUBLAS_STATUS_SUCCESS)
    fail("does not run it", status);
}

void run_gemm(const Queue& queue, const GemmShape& shape, const GemmOperands& operands) {
  if (shape.m == 0 || shape.n == 0) return;
  TESSERA_CHECK(shape.k > 0);
  const std::string key = shape.key();
  if (!queue.libraries) throw Error(Category::device, key + ": no libraries opened");
  std::shared_ptr<GemmPlan>& plan = queue.libraries->gemm_plans[key];
  if (!plan) plan = std::make_shared<GemmPlan>(queue, shape, operands);
  plan->run(queue, operands);
}

}  // namespace tessera::kernels::cuda
