// What computing on a device takes beside memory: a stream, one for copies, and the libraries.
#pragma once

#include "core/device_memory.h"
#include "core/device_stream.h"
#include "core/memory.h"
#include "kernels/libraries.h"
#include "kernels/queue.h"

namespace tessera::parallel {

class DeviceContext {
 public:
  // Without a CUDA device a context for Device::cuda can still plan memory, but not compute.
  explicit DeviceContext(Device device)
      : stream_(present(device), "tessera compute"),
        copies_(present(device), "tessera copies"),
        libraries_(present(device) == Device::cuda ? kernels::open_libraries() : nullptr) {
    queue_.device = device;
    queue_.stream = stream_.get();
    queue_.libraries = libraries_.get();
  }

  static Device present(Device device) {
    return device == Device::cuda && cuda_device_count() == 0 ? Device::cpu : device;
  }

  const kernels::Queue& queue() const { return queue_; }
  const DeviceStream& stream() const { return stream_; }
  const DeviceStream& copies() const { return copies_; }
  kernels::cuda::Libraries* libraries() const { return libraries_.get(); }

  // Operations' shared memory: reserved on CUDA, then given to the queue.
  void plan(MemoryPlan& plan, std::int64_t bytes) {
    if (queue_.device == Device::cuda) workspace_ = plan.reserve("kernel workspace", bytes, 1);
  }
  void bind(const Arena& arena) {
    TESSERA_CHECK(arena.device() == queue_.device);
    queue_.workspace = arena.at<std::byte>(workspace_);
    queue_.workspace_bytes = workspace_.bytes;
  }

 private:
  DeviceStream stream_, copies_;
  kernels::LibrariesHandle libraries_;
  kernels::Queue queue_;
  Buffer workspace_;
};

}  // namespace tessera::parallel
