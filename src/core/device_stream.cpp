#include "core/device_stream.h"

#include "core/cuda_check.h"
#include "core/error.h"

#ifdef TESSERA_HAS_CUDA
#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtCudaRt.h>
#endif

namespace tessera {

#ifdef TESSERA_HAS_CUDA

DeviceStream::DeviceStream(Device device, const std::string& name) {
  if (device == Device::cpu) return;
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  stream_ = stream;
  nvtxNameCudaStreamA(stream, name.c_str());
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  event_ = event;
}

DeviceStream::~DeviceStream() {
  if (event_) cudaEventDestroy(static_cast<cudaEvent_t>(event_));
  if (stream_) cudaStreamDestroy(static_cast<cudaStream_t>(stream_));
}

void DeviceStream::synchronize() const {
  if (stream_) check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream_)), "device work");
}

void DeviceStream::wait_for(const DeviceStream& other) const {
  if (!stream_) return;
  auto* event = static_cast<cudaEvent_t>(other.event_);
  check_cuda(cudaEventRecord(event, static_cast<cudaStream_t>(other.stream_)), "marking a stream");
  check_cuda(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream_), event, 0), "ordering streams");
}

DeviceGraph::DeviceGraph(const DeviceStream& stream, const std::function<void()>& work) {
  auto* s = static_cast<cudaStream_t>(stream.get());
  check_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), "starting a capture");
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(s, &graph);
    if (graph) cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    throw;
  }
  check_cuda(cudaStreamEndCapture(s, &graph), "capturing a graph");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(status, "preparing a captured graph");
  executable_ = executable;
}

DeviceGraph::~DeviceGraph() {
  if (executable_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

void DeviceGraph::launch(const DeviceStream& stream) const {
  check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_),
                             static_cast<cudaStream_t>(stream.get())),
             "launching a captured graph");
}

TraceRange::TraceRange(const std::string& name) {
  nvtxRangePushA(name.c_str());
}
TraceRange::~TraceRange() {
  nvtxRangePop();
}

#else

DeviceStream::DeviceStream(Device device, const std::string&) {
  if (device != Device::cpu) throw Error(Category::device, "this build has no CUDA backend");
}
DeviceStream::~DeviceStream() = default;
void DeviceStream::synchronize() const {}
void DeviceStream::wait_for(const DeviceStream&) const {}
DeviceGraph::DeviceGraph(const DeviceStream&, const std::function<void()>&) {
  throw Error(Category::device, "this build has no CUDA backend");
}
DeviceGraph::~DeviceGraph() = default;
void DeviceGraph::launch(const DeviceStream&) const {}
TraceRange::TraceRange(const std::string&) {}
TraceRange::~TraceRange() = default;

#endif

}  // namespace tessera
