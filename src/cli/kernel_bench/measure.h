// Times single operations against the two ceilings of the same process, copy bandwidth and matrix
// products.
//
// A timed batch runs the operation several times, each time on the next of enough sets of operands
// that none is found in a cache. On CUDA the batch is one captured graph, as training runs it: no
// launch gaps of the host; the time is read from events around it. The figure is the median batch.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/kernel_bench/operands.h"
#include "core/device_stream.h"
#include "kernels/libraries.h"
#include "kernels/queue.h"

namespace tessera::cli {

// An operation on one set of operands.
struct KernelRun {
  std::function<void()> run;
  std::function<void()> before;  // restores what a run destroys; not timed; may be null
};

struct KernelCase {
  std::string operation;  // "linear forward"
  std::string use;        // "vanilla 160M qkv"
  std::string shape;      // "32768 x 768 x 2304"
  double flops = 0;       // of one run
  // Allocates one set of operands; runs use the bench's queue().
  std::function<KernelRun(Operands&)> prepare;
  bool may_refuse =
      false;  // a library may not take the shape: Error{device} becomes the row's text
};

struct KernelTime {
  std::string operation, use, shape;
  double microseconds = 0;
  double bytes = 0, flops = 0;  // operands moved once each, and arithmetic
  bool compute_bound = false;   // which ceiling is the nearer one
  double fraction = 0;          // time at that ceiling / microseconds
  std::string refused;          // why there is no time
};

class KernelBench {
 public:
  // Measures the ceilings. `filter`: time() skips cases whose operation and use do not contain it.
  KernelBench(Device device, std::string filter);

  const kernels::Queue& queue() const { return queue_; }
  bool cuda() const { return queue_.device == Device::cuda; }
  double copy_bandwidth() const { return copy_bandwidth_; }  // bytes a second, read + write
  double gemm_rate() const { return gemm_rate_; }            // FLOP a second
  const std::vector<KernelTime>& times() const { return times_; }

  // At least `bytes` of Queue::workspace; for KernelCase::prepare.
  void need_workspace(std::int64_t bytes);
  void time(const KernelCase& wanted);

 private:
  struct Seconds {
    double median = 0, least = 0, bytes = 0;
  };
  Seconds measure(const std::function<KernelRun(Operands&)>& prepare);
  std::vector<double> time_batches(const std::vector<KernelRun>& runs);
  std::vector<double> time_single(const std::vector<KernelRun>& runs);
  template <typename T>
  void find_ceilings();

  std::string filter_;
  DeviceStream stream_;
  kernels::LibrariesHandle libraries_;
  kernels::Queue queue_;
  OwnedMemory workspace_;
  RandomNumbers numbers_;
  double copy_bandwidth_ = 0, gemm_rate_ = 0;
  std::vector<KernelTime> times_;
};

}  // namespace tessera::cli
