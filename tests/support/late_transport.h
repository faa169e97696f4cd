// A transport whose gathers arrive as late as its contract (comm/transport.h) lets them: when their
// ticket is waited for. Until then the slices that others own are not a number, so whatever
// computes with a parameter that it has not waited for shows. Order and sums are those of the
// transport inside.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "comm/transport.h"
#include "core/device_memory.h"
#include "core/error.h"
#include "parallel/engine.h"

namespace tessera::testing {

// What has happened to the gathers of the last transport that counted here.
struct GatherCount {
  std::int64_t asked = 0;    // gathers in all
  std::int64_t waits = 0;    // waits that brought at least one
  std::int64_t pending = 0;  // asked for and not waited for yet
};

class LateTransport : public comm::Transport {
 public:
  LateTransport(std::unique_ptr<comm::Transport> inside, Device device,
                std::shared_ptr<GatherCount> count)
      : inside_(std::move(inside)), device_(device), count_(std::move(count)) {
    *count_ = {};
  }
  std::int64_t rank() const override { return inside_->rank(); }
  std::int64_t size() const override { return inside_->size(); }

  void after(const DeviceStream& compute) override {
    compute_ = &compute;
    inside_->after(compute);
  }
  void wait(comm::Ticket ticket, const DeviceStream& compute) override {
    if (!late_.empty() && late_.front().ticket <= ticket) {
      ++count_->waits;
      inside_->after(compute);
      bring(ticket);
    }
    inside_->wait(ticket, compute);
  }

  comm::Ticket all_gather(void* data, std::int64_t slice, comm::Element element) override {
    const std::int64_t bytes = slice * comm::element_bytes(element);
    // What is being gathered was not to be changed.
    for (const Gather& gather : late_) TESSERA_CHECK(gather.data != data);
    const std::vector<std::uint8_t> not_a_number(static_cast<std::size_t>(bytes), 0xff);
    for (std::int64_t r = 0; r < size(); ++r)
      if (r != rank())
        upload(device_, static_cast<std::byte*>(data) + r * bytes, not_a_number.data(), bytes,
               compute_->get());
    late_.push_back({++last_, data, slice, element});
    ++count_->asked;
    ++count_->pending;
    return last_;
  }

  comm::Ticket all_reduce(void* data, std::int64_t count, comm::Element element) override {
    return given([&] { return inside_->all_reduce(data, count, element); });
  }
  comm::Ticket reduce_scatter(void* data, std::int64_t slice, comm::Element element) override {
    return given([&] { return inside_->reduce_scatter(data, slice, element); });
  }
  comm::Ticket broadcast(void* data, std::int64_t count, comm::Element element) override {
    return given([&] { return inside_->broadcast(data, count, element); });
  }
  comm::Ticket send(const void* data, std::int64_t count, comm::Element element,
                    std::int64_t to) override {
    return given([&] { return inside_->send(data, count, element, to); });
  }
  comm::Ticket receive(void* data, std::int64_t count, comm::Element element,
                       std::int64_t from) override {
    return given([&] { return inside_->receive(data, count, element, from); });
  }
  comm::Ticket exchange(const void* out, std::int64_t out_count, std::int64_t to, void* in,
                        std::int64_t in_count, std::int64_t from, comm::Element element) override {
    return given(
        [&] { return inside_->exchange(out, out_count, to, in, in_count, from, element); });
  }
  void abort() noexcept override { inside_->abort(); }

 private:
  struct Gather {
    comm::Ticket ticket;
    void* data;
    std::int64_t slice;
    comm::Element element;
  };
  // Operations reach the inside in the order in which they were asked for, so tickets are equal.
  void bring(comm::Ticket ticket) {
    for (; !late_.empty() && late_.front().ticket <= ticket; late_.pop_front()) {
      inside_->all_gather(late_.front().data, late_.front().slice, late_.front().element);
      --count_->pending;
    }
  }
  template <typename F>
  comm::Ticket given(const F& operation) {
    bring(last_);
    operation();
    return ++last_;
  }

  const std::unique_ptr<comm::Transport> inside_;
  const Device device_;
  const std::shared_ptr<GatherCount> count_;
  const DeviceStream* compute_ = nullptr;
  std::deque<Gather> late_;
  comm::Ticket last_ = 0;
};

// `options` with late gathers, which `count` counts.
inline parallel::EngineOptions with_late_gathers(parallel::EngineOptions options, Device device,
                                                 std::shared_ptr<GatherCount> count) {
  options.around_replicas = [device,
                             count = std::move(count)](std::unique_ptr<comm::Transport> inside) {
    return std::make_unique<LateTransport>(std::move(inside), device, count);
  };
  return options;
}

}  // namespace tessera::testing
