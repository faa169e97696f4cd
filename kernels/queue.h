// Where an operation runs: a device and, on CUDA, its stream. Passed to every operation.
//
// The contract of every operation in this folder:
// - One header an operation states the equation, shapes and types. `kernels/cpu/NAME.cpp` keeps it
//   for float and double (instantiated explicitly), `kernels/cuda/NAME.cu` for float and bf16.
// - Arguments are one POD struct of pointers and integers; matrices are row-major; nothing is
//   allocated; inputs and outputs do not overlap unless the header says so. "Queue's memory" is
//   host memory for the CPU and device memory for CUDA; every pointer in an argument struct is
//   such.
// - The choice of backend happens in the inline function of the operation's header, nowhere else.
// - Deterministic: the same arguments and thread count give the same bits.
// - CPU operations are synchronous and use OpenMP's current number of threads. CUDA operations are
//   asynchronous on the queue's stream, need no synchronisation, and can be captured in a graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/device.h"
#include "core/error.h"
#include "kernels/dtype.h"

namespace tessera::kernels {

namespace cuda {
struct Libraries;  // cuBLASLt and cuDNN handles with the chosen algorithms: cuda/libraries.h
}

struct Queue {
  Device device = Device::cpu;
  void* stream = nullptr;  // cudaStream_t
  // CUDA only: device memory that the operations of this stream share, each during its own run.
  std::byte* workspace = nullptr;
  std::int64_t workspace_bytes = 0;
  cuda::Libraries* libraries = nullptr;  // CUDA only
};

// Every operation but attention (which says what it needs) runs within this workspace.
inline constexpr std::int64_t kWorkspaceBytes = std::int64_t{64} << 20;

// No backend of this build has the operation for the queue's device and type.
[[noreturn]] inline void refuse(const Queue& queue, const char* operation) {
  throw Error(Category::device, std::string(operation) + ": no implementation on " +
                                    name(queue.device) + " for this type in this build");
}

// For operations that have no CUDA implementation.
inline void need_cpu(const Queue& queue, const char* operation) {
  if (queue.device != Device::cpu) refuse(queue, operation);
}

}  // namespace tessera::kernels
