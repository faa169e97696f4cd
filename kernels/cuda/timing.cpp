#include "kernels/cuda/timing.h"

#include <algorithm>
#include <array>
#include <limits>

#include "core/cuda_check.h"
#include "kernels/cuda/libraries.cuh"

namespace tessera::kernels::cuda {
namespace {

class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "creating an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

bool may_measure(const Queue& queue) {
  if (!queue.libraries || !queue.libraries->may_measure) return false;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(static_cast<cudaStream_t>(queue.stream), &status),
             "asking whether a stream captures");
  return status == cudaStreamCaptureStatusNone;
}

double median_microseconds(cudaStream_t stream, const std::function<bool()>& run) {
  constexpr int kRuns = 5;
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const Event begin, end;
  std::array<float, kRuns> milliseconds{};
  if (!run()) return kNever;
  for (float& time : milliseconds) {
    check_cuda(cudaEventRecord(begin.get(), stream), "timing a candidate");
    if (!run()) return kNever;
    check_cuda(cudaEventRecord(end.get(), stream), "timing a candidate");
    check_cuda(cudaEventSynchronize(end.get()), "timing a candidate");
    check_cuda(cudaEventElapsedTime(&time, begin.get(), end.get()), "timing a candidate");
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  return 1e3 * static_cast<double>(milliseconds[kRuns / 2]);
}

}  // namespace tessera::kernels::cuda
