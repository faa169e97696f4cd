// CUDA streams, events between them, and captured graphs, as owning types; and ranges that
// profilers show (NVTX). On the CPU nothing of this exists: objects made for Device::cpu do
// nothing.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/device.h"

namespace tessera {

// An asynchronous queue of device work, named for profilers. Error{device} as in device_memory.h.
class DeviceStream {
 public:
  DeviceStream(Device device, const std::string& name);
  ~DeviceStream();
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;

  void* get() const { return stream_; }  // cudaStream_t
  void synchronize() const;
  // Work given to this stream later starts after what `other` has been given until now.
  void wait_for(const DeviceStream& other) const;

 private:
  void *stream_ = nullptr, *event_ = nullptr;
};

// A recorded piece of work that is replayed with one launch.
class DeviceGraph {
 public:
  // Records what `work` gives to `stream` (nothing runs).
  DeviceGraph(const DeviceStream& stream, const std::function<void()>& work);
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  void launch(const DeviceStream& stream) const;

 private:
  void* executable_ = nullptr;
};

// A named range around the work given while it lives, shown by profilers.
class TraceRange {
 public:
  explicit TraceRange(const std::string& name);
  ~TraceRange();
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;
};

}  // namespace tessera
