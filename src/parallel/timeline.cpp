#include "parallel/timeline.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"

namespace tessera::parallel {
namespace {

constexpr std::int64_t kGradientBuffers = 2;  // a chunk

std::size_t at(std::int64_t index) {
  return static_cast<std::size_t>(index);
}

class Simulation {
 public:
  Simulation(const ScheduleShape& shape, const StageCosts& costs)
      : shape_(shape), costs_(costs), last_(shape.stages * shape.chunks - 1) {
    const auto virtual_stages = at(last_ + 1), micro = at(shape.micro_batches);
    forward_end_.assign(virtual_stages, std::vector<double>(micro, kNotYet));
    backward_end_ = forward_end_;
    for (std::int64_t s = 0; s < shape.stages; ++s) {
      Rank rank;
      RankSchedule schedule = make_schedule(shape, s);
      rank.instructions = std::move(schedule.instructions);
      for (const std::int64_t slots : schedule.slots) rank.slot_free.emplace_back(at(slots), 0.0);
      ranks_.push_back(std::move(rank));
    }
    link_free_.assign(at(shape.stages), std::vector<double>(at(shape.stages), 0.0));
  }

  Timeline run() {
    Timeline timeline;
    timeline.ranks.resize(ranks_.size());
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t s = 0; s < ranks_.size(); ++s)
        while (step(static_cast<std::int64_t>(s), timeline.ranks[s])) moved = true;
    }
    double busy = 0;
    for (std::size_t s = 0; s < ranks_.size(); ++s) {
      TESSERA_CHECK(ranks_[s].next == ranks_[s].instructions.size());  // else a deadlock
      for (const Span& span : timeline.ranks[s]) busy += span.end - span.start;
      timeline.seconds = std::max(timeline.seconds, ranks_[s].free);
    }
    if (timeline.seconds > 0)
      timeline.bubble = 1 - busy / (static_cast<double>(ranks_.size()) * timeline.seconds);
    return timeline;
  }

 private:
  static constexpr double kNotYet = -1;
  struct Rank {
    std::vector<Instruction> instructions;
    std::size_t next = 0;
    double free = 0;
    std::vector<std::vector<double>> slot_free;  // [chunk][slot]: behind its backward
  };

  // The next instruction of stage s, if its input has been sent.
  bool step(std::int64_t s, std::vector<Span>& spans) {
    Rank& rank = ranks_[at(s)];
    if (rank.next == rank.instructions.size()) return false;
    const Instruction i = rank.instructions[rank.next];
    const std::int64_t v = i.chunk * shape_.stages + s;
    const bool forward = i.action == Action::forward;
    double arrived = 0;
    if (forward ? v > 0 : v < last_) {
      const std::int64_t from = forward ? v - 1 : v + 1;
      const double sent = (forward ? forward_end_ : backward_end_)[at(from)][at(i.micro_batch)];
      if (sent == kNotYet) return false;
      // Everything before on this rank is known, so is when the buffer is free; and messages of a
      // link are received in the order in which they are sent.
      double& link = link_free_[at(from % shape_.stages)][at(s)];
      arrived = std::max({sent, link, buffer_free(rank, i, v)}) + costs_.link(forward ? v - 1 : v);
      link = arrived;
    }
    const double start = std::max(rank.free, arrived);
    rank.free = start + costs_.compute(i.action, v);
    (forward ? forward_end_ : backward_end_)[at(v)][at(i.micro_batch)] = rank.free;
    if (!forward) rank.slot_free[at(i.chunk)][at(i.slot)] = rank.free;
    spans.push_back({i, start, rank.free});
    ++rank.next;
    return true;
  }

  double buffer_free(const Rank& rank, const Instruction& i, std::int64_t v) const {
    if (i.action == Action::forward) return rank.slot_free[at(i.chunk)][at(i.slot)];
    const std::int64_t user = i.micro_batch - kGradientBuffers;
    return user < 0 ? 0 : backward_end_[at(v)][at(user)];
  }

  ScheduleShape shape_;
  const StageCosts& costs_;
  std::int64_t last_;
  std::vector<Rank> ranks_;
  std::vector<std::vector<double>> forward_end_, backward_end_;  // [virtual stage][micro-batch]
  std::vector<std::vector<double>> link_free_;                   // [from][to]
};

}  // namespace

Timeline simulate(const ScheduleShape& shape, const StageCosts& costs) {
  return Simulation(shape, costs).run();
}

}  // namespace tessera::parallel
