// What every CUDA launcher needs: grid sizes and errors as tessera::Error.
#pragma once

#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "core/error.h"

namespace tessera::kernels::cuda {

inline constexpr int kBlockThreads = 256;

// Blocks of a grid-stride loop over `items`: enough to fill the largest devices several times over
// (132 processors x 8 blocks of 256 threads = 1056), never more than there is work for.
inline int grid_blocks(std::int64_t items) {
  constexpr std::int64_t kMost = 4096;
  const std::int64_t needed = (items + kBlockThreads - 1) / kBlockThreads;
  return static_cast<int>(needed < 1 ? 1 : needed < kMost ? needed : kMost);
}

// Throws Error{device} when the launch just made was refused; asynchronous faults show later.
inline void check_launch(const char* operation) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw Error(Category::device,
                std::string(operation) + ": CUDA refused the launch: " + cudaGetErrorString(error));
}

}  // namespace tessera::kernels::cuda
