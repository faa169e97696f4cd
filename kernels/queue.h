// Where an operation runs: a device and, on CUDA, its stream. Passed by value to every operation.
//
// The contract of every operation in this folder:
// - One header an operation states the equation, shapes and types. `kernels/cpu/NAME.cpp` keeps it
//   for float and double (instantiated explicitly), `kernels/cuda/NAME.cu` for float and bf16.
// - Arguments are one POD struct of pointers and integers; matrices are row-major; nothing is
//   allocated; inputs and outputs do not overlap unless the header says so.
// - The choice of backend happens in the inline function of the operation's header, nowhere else.
// - Deterministic: the same arguments and thread count give the same bits.
// - CPU operations are synchronous and use OpenMP's current number of threads.
#pragma once

#include "core/device.h"
#include "core/error.h"

namespace tessera::kernels {

struct Queue {
  Device device = Device::cpu;
  void* stream = nullptr;  // cudaStream_t
};

// For operations that have no CUDA implementation in this build.
inline void need_cpu(const Queue& queue, const char* operation) {
  if (queue.device != Device::cpu)
    throw Error(Category::device,
                std::string(operation) + ": no CUDA implementation in this build");
}

}  // namespace tessera::kernels
