// CUDA runtime status as tessera::Error. For host code of builds with CUDA; empty otherwise.
#pragma once

#ifdef TESSERA_HAS_CUDA

#include <string>

#include <cuda_runtime_api.h>

#include "core/error.h"

namespace tessera {

// Error{device}: "WHAT: CUDA says ...".
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw Error(Category::device,
                std::string(what) + ": CUDA says \"" + cudaGetErrorString(status) + "\"");
}

}  // namespace tessera

#endif
