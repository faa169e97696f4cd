// The channels that a rank shares with its neighbours in a pipeline. Every direction of every kind
// of traffic has a transport of its own, so nothing waits for anything but its own message
// (docs/parallel.md, "Links").
//
// Virtual stage v = chunk * stages + stage sends its activations to v + 1 and the gradients of what
// it received to v - 1; neighbours lie on the next and the previous stage, round the ring.
#pragma once

#include <memory>

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
  std::unique_ptr<comm::Communicator> pair_;
  std::unique_ptr<comm::Transport> transport_;
};

struct Links {
  Channel activations_in, activations_out;  // from the previous stage, to the next
  Channel gradients_in, gradients_out;      // from the next stage, to the previous
  void abort() noexcept;
};

// `pipeline`: the ranks of one replica, in the order of stages; all of them call it. With more than
// one chunk the last stage's next is the first.
Links make_links(comm::Communicator& pipeline, std::int64_t chunks, comm::TransportOptions options);

}  // namespace tessera::parallel
