// Arrays in host memory through MPI. Collectives block; messages are MPI_Isend and MPI_Irecv, whose
// requests wait() completes in the order of their tickets. Sums in bf16 travel and add up in fp32.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include <spdlog/fmt/fmt.h>

#include "comm/element.h"
#include "comm/flight_record.h"
#include "comm/mpi_communicator.h"
#include "comm/transports.h"
#include "core/error.h"
#include "core/integers.h"

namespace tessera::comm {
namespace {

// MPI-3 counts are int: sums of longer arrays go in pieces of this many elements.
constexpr std::int64_t kPiece = std::int64_t{1} << 28;
// Elements that are packed or widened at a time.
constexpr std::int64_t kScratch = std::int64_t{1} << 20;

MPI_Datatype wire_type(Element element) {
  if (element == Element::fp32) return MPI_FLOAT;
  return element == Element::fp64 ? MPI_DOUBLE : MPI_UINT16_T;
}

class MpiTransport : public Transport {
 public:
  MpiTransport(Communicator& group, const std::string& name)
      : rank_(group.rank()),
        size_(group.size()),
        flight_(make_flight_record(name, group.rank(), group.size())) {
    check_mpi(MPI_Comm_dup(mpi_group(group), &comm_), "MPI_Comm_dup");
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }

  ~MpiTransport() override {
    int finalized = 0;
    if (MPI_Finalized(&finalized) != MPI_SUCCESS || finalized) return;
    // On the way out of a failure other ranks may never answer: leave all as it is.
    if (aborted_ || std::uncaught_exceptions() > 0) return;
    for (Pending& pending : pending_) MPI_Wait(&pending.request, MPI_STATUS_IGNORE);
    MPI_Comm_free(&comm_);
  }

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }
  void after(const DeviceStream&) override {}

  void wait(Ticket ticket, const DeviceStream&) override {
    TESSERA_CHECK(ticket >= 1 && ticket <= last_);
    while (!pending_.empty() && pending_.front().ticket <= ticket) {
      finish(pending_.front());
      pending_.erase(pending_.begin());
    }
  }

  Ticket all_reduce(void* data, std::int64_t count, Element element) override {
    begin("all_reduce", count, element);
    auto* at = static_cast<std::byte*>(data);
    const std::int64_t bytes = element_bytes(element);
    const bool widened = element == Element::bf16;
    for (std::int64_t n; count > 0; at += n * bytes, count -= n) {
      n = std::min(count, widened ? kScratch : kPiece);
      std::byte* sum = widened ? scratch(n) : at;
      if (widened) widen(element, at, n, sum);
      check(MPI_Allreduce(MPI_IN_PLACE, sum, narrow<int>(n), wire_type(sum_element(element)),
                          MPI_SUM, comm_));
      if (widened) narrow_back(element, sum, n, at);
    }
    return end();
  }

  Ticket reduce_scatter(void* data, std::int64_t slice, Element element) override {
    begin("reduce_scatter", slice * size_, element);
    auto* slices = static_cast<std::byte*>(data);
    const std::int64_t bytes = element_bytes(element);
    std::byte* mine = slices + rank_ * slice * bytes;
    if (element != Element::bf16 && slice * size_ <= kPiece) {
      scatter_sum(slices, slice, element);
      // In place the result lands at the front of `data`.
      if (rank_ != 0) std::memcpy(mine, slices, static_cast<std::size_t>(slice * bytes));
      return end();
    }
    const std::int64_t step = std::max<std::int64_t>(1, kScratch / size_);
    const std::int64_t wide = element_bytes(sum_element(element));
    for (std::int64_t at = 0; at < slice; at += step) {
      const std::int64_t n = std::min(step, slice - at);
      std::byte* packed = scratch(n * size_);
      for (std::int64_t r = 0; r < size_; ++r)
        widen(element, slices + (r * slice + at) * bytes, n, packed + r * n * wide);
      scatter_sum(packed, n, element);
      narrow_back(element, packed, n, mine + at * bytes);
    }
    return end();
  }

  Ticket all_gather(void* data, std::int64_t slice, Element element) override {
    begin("all_gather", slice * size_, element);
    check(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, narrow<int>(slice),
                        wire_type(element), comm_));
    return end();
  }

  Ticket broadcast(void* data, std::int64_t count, Element element) override {
    begin("broadcast", count, element);
    auto* at = static_cast<std::byte*>(data);
    for (std::int64_t n; count > 0; at += n * element_bytes(element), count -= n) {
      n = std::min(count, kPiece);
      check(MPI_Bcast(at, narrow<int>(n), wire_type(element), 0, comm_));
    }
    return end();
  }

  Ticket send(const void* data, std::int64_t count, Element element, std::int64_t to) override {
    ++last_;
    post_send(data, count, element, to);
    return last_;
  }

  Ticket receive(void* data, std::int64_t count, Element element, std::int64_t from) override {
    ++last_;
    post_receive(data, count, element, from);
    return last_;
  }

  Ticket exchange(const void* out, std::int64_t out_count, std::int64_t to, void* in,
                  std::int64_t in_count, std::int64_t from, Element element) override {
    ++last_;
    post_receive(in, in_count, element, from);
    post_send(out, out_count, element, to);
    return last_;
  }

  void abort() noexcept override { aborted_ = true; }

 private:
  struct Pending {
    Ticket ticket = 0;
    MPI_Request request = MPI_REQUEST_NULL;
    std::int64_t sequence = 0, peer = 0, receives = -1;  // elements expected, -1 for a send
    Element element = Element::fp32;
  };

  void require_living(const char* operation) {
    if (aborted_)
      throw Error(Category::device,
                  fmt::format("{} of group '{}', rank {} of {}: the transport was "
                              "aborted",
                              operation, flight_->name(), rank_, size_));
  }

  void begin(const char* operation, std::int64_t count, Element element, std::int64_t peer = -1) {
    TESSERA_CHECK(count >= 0 && peer < size_ && peer != rank_);
    require_living(operation);
    operation_ = operation;
    sequence_ = flight_->begin(operation, count * element_bytes(element), peer);
  }
  Ticket end() {
    flight_->done(sequence_);
    return ++last_;
  }

  void check(int code) const {
    if (code != MPI_SUCCESS)
      check_mpi(code, fmt::format("{} (number {}) of group '{}', rank {} of {},", operation_,
                                  sequence_, flight_->name(), rank_, size_)
                          .c_str());
  }

  // `elements` of what sums are made of.
  std::byte* scratch(std::int64_t elements) {
    if (scratch_.size() < static_cast<std::size_t>(elements))
      scratch_.resize(static_cast<std::size_t>(std::max(elements, kScratch)));
    return reinterpret_cast<std::byte*>(scratch_.data());
  }

  void scatter_sum(std::byte* slices, std::int64_t slice, Element element) {
    check(MPI_Reduce_scatter_block(MPI_IN_PLACE, slices, narrow<int>(slice),
                                   wire_type(sum_element(element)), MPI_SUM, comm_));
  }

  void post_send(const void* data, std::int64_t count, Element element, std::int64_t to) {
    TESSERA_CHECK(to >= 0);
    begin("send", count, element, to);
    Pending pending{last_, MPI_REQUEST_NULL, sequence_, to, -1, element};
    check(MPI_Isend(data, narrow<int>(count), wire_type(element), static_cast<int>(to), 0, comm_,
                    &pending.request));
    pending_.push_back(pending);
  }

  void post_receive(void* data, std::int64_t count, Element element, std::int64_t from) {
    TESSERA_CHECK(from >= 0);
    begin("receive", count, element, from);
    Pending pending{last_, MPI_REQUEST_NULL, sequence_, from, count, element};
    check(MPI_Irecv(data, narrow<int>(count), wire_type(element), static_cast<int>(from), 0, comm_,
                    &pending.request));
    pending_.push_back(pending);
  }

  // Polls, so that abort() is seen.
  void finish(Pending& pending) {
    operation_ = pending.receives < 0 ? "send" : "receive";
    sequence_ = pending.sequence;
    MPI_Status status;
    for (int done = 0; !done;) {
      require_living(operation_);
      check(MPI_Test(&pending.request, &done, &status));
      if (!done) std::this_thread::yield();
    }
    if (pending.receives >= 0) {
      int count = 0;
      check(MPI_Get_count(&status, wire_type(pending.element), &count));
      if (count != pending.receives)
        throw Error(Category::device,
                    fmt::format("receive (number {}) of group '{}': {} elements were expected from "
                                "rank {}, {} came",
                                sequence_, flight_->name(), pending.receives, pending.peer, count));
    }
    flight_->done(pending.sequence);
  }

  const std::int64_t rank_, size_;
  const std::shared_ptr<FlightRecord> flight_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::vector<Pending> pending_;  // in the order of their tickets
  std::vector<double> scratch_;
  std::atomic<bool> aborted_ = false;
  Ticket last_ = 0;
  const char* operation_ = "";  // the current one, for messages
  std::int64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(Communicator& group,
                                              const TransportOptions& options) {
  return std::make_unique<MpiTransport>(group, options.name);
}

}  // namespace tessera::comm
