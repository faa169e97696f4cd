#include "kernels/cuda/timing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

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

// Microseconds of one run among several back to back; infinite once one returns false.
double time_batch(cudaStream_t stream, const std::function<bool()>& run) {
  constexpr int kWarm = 2, kRuns = 6;
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const Event begin, end;
  for (int i = 0; i < kWarm; ++i)
    if (!run()) return kNever;
  check_cuda(cudaEventRecord(begin.get(), stream), "timing a candidate");
  for (int i = 0; i < kRuns; ++i)
    if (!run()) return kNever;
  check_cuda(cudaEventRecord(end.get(), stream), "timing a candidate");
  check_cuda(cudaEventSynchronize(end.get()), "timing a candidate");
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "timing a candidate");
  return 1e3 * static_cast<double>(milliseconds) / kRuns;
}

}  // namespace

bool may_measure(const Queue& queue) {
  if (!queue.libraries || !queue.libraries->may_measure) return false;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(static_cast<cudaStream_t>(queue.stream), &status),
             "asking whether a stream captures");
  return status == cudaStreamCaptureStatusNone;
}

Fastest find_fastest(cudaStream_t stream, int candidates, const std::function<bool(int)>& run) {
  constexpr std::size_t kFinalists = 4;
  constexpr int kRounds = 3;
  std::vector<Fastest> order;
  for (int i = 0; i < candidates; ++i)
    if (const double time = time_batch(stream, [&] { return run(i); }); std::isfinite(time))
      order.push_back({i, time});
  const auto faster = [](const Fastest& a, const Fastest& b) {
    return a.microseconds < b.microseconds;
  };
  std::stable_sort(order.begin(), order.end(), faster);
  if (order.size() > kFinalists) order.resize(kFinalists);
  if (order.size() > 1)
    for (Fastest& each : order) each.microseconds = 0;
  for (int round = 0; round < kRounds && order.size() > 1; ++round)
    for (Fastest& each : order)
      each.microseconds += time_batch(stream, [&] { return run(each.candidate); }) / kRounds;
  const auto best = std::min_element(order.begin(), order.end(), faster);
  return best == order.end() ? Fastest{} : *best;
}

}  // namespace tessera::kernels::cuda
