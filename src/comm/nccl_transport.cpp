// Arrays in GPU memory through NCCL, on a stream of their own. A ticket is an event behind its
// operation, from a ring: nothing is allocated by a call.
#include <algorithm>
#include <array>
#include <exception>

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "comm/flight_record.h"
#include "comm/nccl_handle.h"
#include "comm/transports.h"
#include "core/cuda_check.h"
#include "core/device_memory.h"

namespace tessera::comm {
namespace {

// Tickets with an event of their own. An older one waits for the oldest of these, which comes
// behind it in the stream.
constexpr std::int64_t kEvents = 256;

ncclDataType_t type_of(Element element) {
  if (element == Element::bf16) return ncclBfloat16;
  return element == Element::fp32 ? ncclFloat32 : ncclFloat64;
}

class Events {
 public:
  Events() {
    for (cudaEvent_t& event : events_)
      check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  }
  ~Events() {
    for (cudaEvent_t event : events_)
      if (event) cudaEventDestroy(event);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  cudaEvent_t of(Ticket ticket) const {
    return events_[static_cast<std::size_t>(ticket % kEvents)];
  }

 private:
  std::array<cudaEvent_t, kEvents> events_{};
};

class NcclTransport : public Transport {
 public:
  NcclTransport(Communicator& group, const TransportOptions& options)
      : rank_(group.rank()),
        size_(group.size()),
        flight_(make_flight_record(options.name, group.rank(), group.size())),
        stream_(Device::cuda, options.name),
        handle_(group, options.name, options.start_seconds, options.most_blocks) {
    connect(options.traffic);
  }
  // Operations still on the stream end before the communicator does; on the way out of a failure
  // other ranks may never take part in them.
  ~NcclTransport() override {
    if (std::uncaught_exceptions() == 0) cudaStreamSynchronize(stream());
  }

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }
  void after(const DeviceStream& compute) override { stream_.wait_for(compute); }

  void wait(Ticket ticket, const DeviceStream& compute) override {
    TESSERA_CHECK(ticket >= 1 && ticket <= last_);
    const Ticket kept = std::max(ticket, last_ - kEvents + 1);
    check_cuda(cudaStreamWaitEvent(static_cast<cudaStream_t>(compute.get()), events_.of(kept), 0),
               "waiting for a transport");
  }

  Ticket all_reduce(void* data, std::int64_t count, Element element) override {
    return operation("all_reduce", count, element, -1, [&](ncclComm_t comm) {
      return ncclAllReduce(data, data, elements(count), type_of(element), ncclSum, comm, stream());
    });
  }

  Ticket reduce_scatter(void* data, std::int64_t slice, Element element) override {
    return operation("reduce_scatter", slice * size_, element, -1, [&](ncclComm_t comm) {
      return ncclReduceScatter(data, mine(data, slice, element), elements(slice), type_of(element),
                               ncclSum, comm, stream());
    });
  }

  Ticket all_gather(void* data, std::int64_t slice, Element element) override {
    return operation("all_gather", slice * size_, element, -1, [&](ncclComm_t comm) {
      return ncclAllGather(mine(data, slice, element), data, elements(slice), type_of(element),
                           comm, stream());
    });
  }

  Ticket broadcast(void* data, std::int64_t count, Element element) override {
    return operation("broadcast", count, element, -1, [&](ncclComm_t comm) {
      return ncclBroadcast(data, data, elements(count), type_of(element), 0, comm, stream());
    });
  }

  Ticket send(const void* data, std::int64_t count, Element element, std::int64_t to) override {
    require_peer(to);
    return operation("send", count, element, to, [&](ncclComm_t comm) {
      return ncclSend(data, elements(count), type_of(element), static_cast<int>(to), comm,
                      stream());
    });
  }

  Ticket receive(void* data, std::int64_t count, Element element, std::int64_t from) override {
    require_peer(from);
    return operation("receive", count, element, from, [&](ncclComm_t comm) {
      return ncclRecv(data, elements(count), type_of(element), static_cast<int>(from), comm,
                      stream());
    });
  }

  Ticket exchange(const void* out, std::int64_t out_count, std::int64_t to, void* in,
                  std::int64_t in_count, std::int64_t from, Element element) override {
    require_peer(to);
    require_peer(from);
    const std::int64_t largest = std::max(out_count, in_count);
    return operation("exchange", largest, element, to, [&](ncclComm_t comm) {
      ncclResult_t result = ncclGroupStart();
      if (result != ncclSuccess) return result;
      if (out_count > 0)
        result = ncclSend(out, elements(out_count), type_of(element), static_cast<int>(to), comm,
                          stream());
      if (in_count > 0 && (result == ncclSuccess || result == ncclInProgress))
        result = ncclRecv(in, elements(in_count), type_of(element), static_cast<int>(from), comm,
                          stream());
      const ncclResult_t ended = ncclGroupEnd();
      return result == ncclSuccess || result == ncclInProgress ? ended : result;
    });
  }

  void abort() noexcept override { handle_.abort(); }

 private:
  cudaStream_t stream() const { return static_cast<cudaStream_t>(stream_.get()); }
  static std::size_t elements(std::int64_t count) { return static_cast<std::size_t>(count); }
  std::byte* mine(void* data, std::int64_t slice, Element element) const {
    return static_cast<std::byte*>(data) + rank_ * slice * element_bytes(element);
  }
  void require_peer(std::int64_t peer) const {
    TESSERA_CHECK(peer >= 0 && peer < size_ && peer != rank_);
  }

  // Nothing is asked for empty arrays; all sides know their size.
  template <typename F>
  Ticket operation(const char* what, std::int64_t count, Element element, std::int64_t peer,
                   const F& ask) {
    TESSERA_CHECK(count >= 0);
    const std::int64_t sequence = flight_->begin(what, count * element_bytes(element), peer);
    if (count > 0) handle_.call(what, sequence, ask);
    ++last_;
    check_cuda(cudaEventRecord(events_.of(last_), stream()), "marking a transport's operation");
    return last_;
  }

  // NCCL connects ranks at their first operation of a kind, which blocks the host until the others
  // make it: small ones now, so that later calls only fill the stream.
  void connect(Traffic traffic) {
    if (size_ == 1) return;
    const std::int64_t bytes = 2 * size_ * element_bytes(Element::fp32);
    const auto release = [](std::byte* memory) { free_memory(Device::cuda, memory); };
    const std::unique_ptr<std::byte, decltype(release)> memory(allocate_memory(Device::cuda, bytes),
                                                               release);
    auto* floats = reinterpret_cast<float*>(memory.get());
    if (traffic != Traffic::messages) {
      all_reduce(floats, size_, Element::fp32);
      reduce_scatter(floats, 1, Element::fp32);
      all_gather(floats, 1, Element::fp32);
      broadcast(floats, 1, Element::fp32);
    }
    if (traffic != Traffic::collectives) {
      const std::int64_t next = (rank_ + 1) % size_, last = (rank_ + size_ - 1) % size_;
      exchange(floats, 1, next, floats + 1, 1, last, Element::fp32);
      if (size_ > 2) exchange(floats, 1, last, floats + 1, 1, next, Element::fp32);
    }
    check_cuda(cudaStreamSynchronize(stream()), "connecting the ranks of a group");
    last_ = 0;
  }

  const std::int64_t rank_, size_;
  const std::shared_ptr<FlightRecord> flight_;
  const DeviceStream stream_;
  const Events events_;
  NcclHandle handle_;
  Ticket last_ = 0;
};

}  // namespace

std::unique_ptr<Transport> make_nccl_transport(Communicator& group,
                                               const TransportOptions& options) {
  return std::make_unique<NcclTransport>(group, options);
}

}  // namespace tessera::comm
