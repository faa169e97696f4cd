// Arrays of a device through page-locked host memory and a transport there: for machines without
// NCCL, and for two ranks on one GPU, which NCCL refuses. Collectives go in pieces through one
// buffer; a message has a buffer of its own until wait().
#include <algorithm>
#include <vector>

#include "comm/transports.h"
#include "core/device_memory.h"
#include "core/error.h"

namespace tessera::comm {
namespace {

// Of the buffer of collectives.
constexpr std::int64_t kStageBytes = std::int64_t{8} << 20;
constexpr std::int64_t kSmallestBuffer = std::int64_t{64} << 10;

class StagedTransport : public Transport {
 public:
  StagedTransport(std::unique_ptr<Transport> host, const TransportOptions& options)
      : host_(std::move(host)),
        device_(options.device),
        stream_(options.device, options.name + " staging"),
        stage_(options.device,
               std::max(kStageBytes, host_->size() * element_bytes(Element::fp64))) {}

  std::int64_t rank() const override { return host_->rank(); }
  std::int64_t size() const override { return host_->size(); }
  void after(const DeviceStream& compute) override { stream_.wait_for(compute); }

  void wait(Ticket ticket, const DeviceStream& compute) override {
    TESSERA_CHECK(ticket >= 1 && ticket <= last_);
    std::size_t ended = 0;
    for (; ended < pending_.size() && pending_[ended].ticket <= ticket; ++ended) {
      const Pending& message = pending_[ended];
      host_->wait(message.host, compute);
      if (message.to)
        upload_async(device_, message.to, message.buffer->memory.as<std::byte>(), message.bytes,
                     stream_.get());
    }
    if (ended > 0) {
      stream_.synchronize();  // the buffers may be used again
      for (std::size_t i = 0; i < ended; ++i) pending_[i].buffer->busy = false;
      pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(ended));
    }
    compute.wait_for(stream_);
  }

  Ticket all_reduce(void* data, std::int64_t count, Element element) override {
    const std::int64_t size = element_bytes(element), step = kStageBytes / size;
    auto* at = static_cast<std::byte*>(data);
    for (std::int64_t n; count > 0; at += n * size, count -= n) {
      n = std::min(count, step);
      down(at, n * size, 0);
      stream_.synchronize();
      host_->all_reduce(stage(), n, element);
      up(at, n * size, 0);
    }
    return ++last_;
  }

  Ticket reduce_scatter(void* data, std::int64_t slice, Element element) override {
    in_pieces(data, slice, element, [&](std::byte* piece, std::int64_t stride, std::int64_t n) {
      const std::int64_t bytes = n * element_bytes(element), mine = host_->rank();
      for (std::int64_t r = 0; r < size(); ++r) down(piece + r * stride, bytes, r * bytes);
      stream_.synchronize();
      host_->reduce_scatter(stage(), n, element);
      up(piece + mine * stride, bytes, mine * bytes);
    });
    return ++last_;
  }

  Ticket all_gather(void* data, std::int64_t slice, Element element) override {
    in_pieces(data, slice, element, [&](std::byte* piece, std::int64_t stride, std::int64_t n) {
      const std::int64_t bytes = n * element_bytes(element), mine = host_->rank();
      down(piece + mine * stride, bytes, mine * bytes);
      stream_.synchronize();
      host_->all_gather(stage(), n, element);
      for (std::int64_t r = 0; r < size(); ++r)
        if (r != mine) up(piece + r * stride, bytes, r * bytes);
    });
    return ++last_;
  }

  Ticket broadcast(void* data, std::int64_t count, Element element) override {
    const std::int64_t size = element_bytes(element), step = kStageBytes / size;
    auto* at = static_cast<std::byte*>(data);
    for (std::int64_t n; count > 0; at += n * size, count -= n) {
      n = std::min(count, step);
      if (host_->rank() == 0) down(at, n * size, 0);
      stream_.synchronize();
      host_->broadcast(stage(), n, element);
      if (host_->rank() != 0) up(at, n * size, 0);
    }
    return ++last_;
  }

  Ticket send(const void* data, std::int64_t count, Element element, std::int64_t to) override {
    Pending message = message_of(count, element, nullptr);
    fill(message, data);
    message.host = host_->send(message.buffer->memory.as<std::byte>(), count, element, to);
    return post({message});
  }

  Ticket receive(void* data, std::int64_t count, Element element, std::int64_t from) override {
    Pending message = message_of(count, element, data);
    message.host = host_->receive(message.buffer->memory.as<std::byte>(), count, element, from);
    return post({message});
  }

  Ticket exchange(const void* out, std::int64_t out_count, std::int64_t to, void* in,
                  std::int64_t in_count, std::int64_t from, Element element) override {
    Pending sent = message_of(out_count, element, nullptr);
    Pending received = message_of(in_count, element, in);
    fill(sent, out);
    sent.host = received.host =
        host_->exchange(sent.buffer->memory.as<std::byte>(), out_count, to,
                        received.buffer->memory.as<std::byte>(), in_count, from, element);
    return post({sent, received});
  }

  void abort() noexcept override { host_->abort(); }

 private:
  struct Buffer {
    HostMemory memory;
    std::int64_t bytes;
    bool busy = true;
  };
  struct Pending {
    Ticket ticket = 0, host = 0;
    Buffer* buffer = nullptr;
    void* to = nullptr;  // of a receive
    std::int64_t bytes = 0;
  };

  std::byte* stage() const { return stage_.as<std::byte>(); }
  void down(const std::byte* from, std::int64_t bytes, std::int64_t at) {
    download_async(device_, stage() + at, from, bytes, stream_.get());
  }
  void up(std::byte* to, std::int64_t bytes, std::int64_t at) {
    upload_async(device_, to, stage() + at, bytes, stream_.get());
  }

  // One call a piece of all slices that fits the buffer: (its place in slice 0, bytes from slice to
  // slice, its elements in each).
  template <typename F>
  void in_pieces(void* data, std::int64_t slice, Element element, const F& piece) {
    const std::int64_t bytes = element_bytes(element);
    const std::int64_t step = std::max<std::int64_t>(1, kStageBytes / (bytes * size()));
    for (std::int64_t at = 0; at < slice; at += step)
      piece(static_cast<std::byte*>(data) + at * bytes, slice * bytes, std::min(step, slice - at));
  }

  Buffer* take_buffer(std::int64_t bytes) {
    for (const auto& buffer : buffers_)
      if (!buffer->busy && buffer->bytes >= bytes) {
        buffer->busy = true;
        return buffer.get();
      }
    std::int64_t capacity = kSmallestBuffer;
    while (capacity < bytes) capacity *= 2;
    buffers_.push_back(std::make_unique<Buffer>(Buffer{HostMemory(device_, capacity), capacity}));
    return buffers_.back().get();
  }

  Pending message_of(std::int64_t count, Element element, void* to) {
    TESSERA_CHECK(count >= 0);
    const std::int64_t bytes = count * element_bytes(element);
    return {0, 0, take_buffer(bytes), to, bytes};
  }
  void fill(const Pending& message, const void* data) {
    download_async(device_, message.buffer->memory.as<std::byte>(), data, message.bytes,
                   stream_.get());
    stream_.synchronize();
  }
  Ticket post(std::initializer_list<Pending> messages) {
    ++last_;
    for (Pending message : messages) {
      message.ticket = last_;
      pending_.push_back(message);
    }
    return last_;
  }

  std::vector<std::unique_ptr<Buffer>> buffers_;  // outlive the host transport's messages
  const std::unique_ptr<Transport> host_;
  const Device device_;
  const DeviceStream stream_;
  const HostMemory stage_;
  std::vector<Pending> pending_;  // in the order of their tickets
  Ticket last_ = 0;
};

}  // namespace

std::unique_ptr<Transport> make_staged_transport(std::unique_ptr<Transport> host,
                                                 const TransportOptions& options) {
  return std::make_unique<StagedTransport>(std::move(host), options);
}

}  // namespace tessera::comm
