#include "core/stopwatch.h"

#include "core/cuda_check.h"

namespace tessera {

Stopwatch::~Stopwatch() {
#ifdef TESSERA_HAS_CUDA
  for (void* event : events_) cudaEventDestroy(static_cast<cudaEvent_t>(event));
#endif
}

std::size_t Stopwatch::mark() {
#ifdef TESSERA_HAS_CUDA
  if (device_ == Device::cuda) {
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreate(&event), "creating an event");
    events_.push_back(event);
    check_cuda(cudaEventRecord(event, static_cast<cudaStream_t>(stream_)), "marking a stream");
    return events_.size() - 1;
  }
#endif
  times_.push_back(std::chrono::steady_clock::now());
  return times_.size() - 1;
}

double Stopwatch::milliseconds(std::size_t from, std::size_t to) const {
#ifdef TESSERA_HAS_CUDA
  if (device_ == Device::cuda) {
    float time = 0;
    check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(events_[to])), "device work");
    check_cuda(cudaEventElapsedTime(&time, static_cast<cudaEvent_t>(events_[from]),
                                    static_cast<cudaEvent_t>(events_[to])),
               "reading the time between two marks");
    return static_cast<double>(time);
  }
#endif
  return std::chrono::duration<double, std::milli>(times_[to] - times_[from]).count();
}

}  // namespace tessera
