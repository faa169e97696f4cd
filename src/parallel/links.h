// The channels that a rank shares with its neighbours in a pipeline. Every direction of every kind
// of traffic has a transport of its own, so nothing waits for anything but its own message
// (docs/parallel.md, "Links").
//
// Virtual stage v = chunk * stages + stage sends its activations to v + 1 and the gradients of what
// it received to v - 1; neighbours lie on the next and the previous stage, round the ring.
#pragma once

#include <memory>
#include <vector>

#include "comm/transport.h"

namespace tessera::parallel {

// One end of a channel between two ranks.
class Channel {
 public:
  Channel() = default;
  Channel(std::unique_ptr<comm::Communicator> pair, const comm::TransportOptions& options);

  explicit operator bool() const { return transport_ != nullptr; }
  comm::Transport& transport() const { return *transport_; }
  comm::Ticket send(const void* data, std::int64_t count, comm::Element element) {
    return transport_->send(data, count, element, 1 - transport_->rank());
  }
  comm::Ticket receive(void* data, std::int64_t count, comm::Element element) {
    return transport_->receive(data, count, element, 1 - transport_->rank());
  }

 private:
  std::shared_ptr<comm::Communicator> pair_;
  std::shared_ptr<comm::Transport> transport_;
};

// Multiprocessors that a message holds on a GPU, also while it waits for the other side: two carry
// some 40 GB/s, and with NCCL's own choice (up to 32) two H100s trained 12 % slower (measured on
// block_420m, docs/scaling.md).
inline constexpr int kLinkBlocks = 2;

// The last channel that was opened is the first to be closed: NCCL ends a group in agreement with
// its other rank, so both sides close their channels in one order.
struct Links {
  Links() = default;
  Links(Links&&) = default;
  ~Links();

  Channel activations_in, activations_out;  // from the previous stage, to the next
  Channel gradients_in, gradients_out;      // from the next stage, to the previous
  std::vector<Channel> opened;              // all of these, in the order that both sides share
  void abort() noexcept;
};

// `pipeline`: the ranks of one replica, in the order of stages; all of them call it. With more than
// one chunk the last stage's next is the first.
Links make_links(comm::Communicator& pipeline, std::int64_t chunks, comm::TransportOptions options);

}  // namespace tessera::parallel
