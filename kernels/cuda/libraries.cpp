// Opens cuBLASLt and names device and library in the record of algorithms.
#include "kernels/libraries.h"

#include <string>
#include <utility>

#include "core/cuda_check.h"
#include "core/device_memory.h"
#include "kernels/cuda/cudnn_attention.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/libraries.cuh"

namespace tessera::kernels {

void CloseLibraries::operator()(cuda::Libraries* libraries) const {
  delete libraries;
}

LibrariesHandle open_libraries() {
  LibrariesHandle handle(new cuda::Libraries);
  if (const cublasStatus_t status = cublasLtCreate(&handle->lt); status != CUBLAS_STATUS_SUCCESS)
    throw Error(Category::device,
                std::string("cuBLASLt does not open: ") + cublasLtGetStatusString(status));
  handle->algorithms.device = device_info().name;
  handle->algorithms.library = "cuBLASLt " + std::to_string(cublasLtGetVersion());
  return handle;
}

Algorithms& algorithms(cuda::Libraries& libraries) {
  return libraries.algorithms;
}

void set_algorithms(cuda::Libraries& libraries, Algorithms algorithms) {
  libraries.algorithms = std::move(algorithms);
  libraries.gemm_plans.clear();
}

void set_may_measure(cuda::Libraries& libraries, bool may_measure) {
  libraries.may_measure = may_measure;
}

}  // namespace tessera::kernels
