// Timing candidates on a stream, for choices that are measured once (kernels/algorithms.h).
#pragma once

#include <functional>

#include <cuda_runtime.h>

#include "kernels/queue.h"

namespace tessera::kernels::cuda {

// The queue's libraries allow measuring and its stream is not being captured.
bool may_measure(const Queue& queue);

struct Fastest {
  int candidate = -1;  // -1: none runs
  double microseconds = 0;
};

// Which of `candidates` runs fastest. Runs follow one another without gaps, under load as in
// training; the few best of a first round run once more in turns, so that one disturbance does not
// decide. `run` returns false for a candidate that cannot.
Fastest find_fastest(cudaStream_t stream, int candidates, const std::function<bool(int)>& run);

}  // namespace tessera::kernels::cuda
