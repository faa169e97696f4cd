// Timing candidates on a stream, for choices that are measured once (kernels/algorithms.h).
#pragma once

#include <functional>

#include <cuda_runtime.h>

#include "kernels/queue.h"

namespace tessera::kernels::cuda {

// The queue's libraries allow measuring and its stream is not being captured.
bool may_measure(const Queue& queue);

// Median of several runs after one that does not count; infinite once `run` returns false.
double median_microseconds(cudaStream_t stream, const std::function<bool()>& run);

}  // namespace tessera::kernels::cuda
