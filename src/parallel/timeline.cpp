// Runs the schedules of all stages against each other and notes the times.
//
// Every rank and every link does its work in a fixed order (the schedule's; a link's is its
// sender's), so times follow from "the latest of what it waits for", without a clock: ranks and
// links go on in turn as far as they can, until all is done or nothing moves.
#include "parallel/timeline.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace tessera::parallel {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::infinity();

// An activation or gradient on its way from one rank to another.
struct Message {
  std::int64_t producer = 0, consumer = 0;  // virtual stages: +1 an activation, -1 a gradient
  std::size_t micro_batch = 0;
  double produced = 0;
};

// All messages from one rank to another, in the order in which the sender produces them.
struct Link {
  std::vector<Message> messages;
  std::size_t next = 0;  // to be received
  double free = 0;       // when the message before is through
};

// What happens to the micro-batches of one virtual stage, and when; kUnknown until it has happened.
struct VirtualStage {
  double forward_cost = 0, backward_cost = 0, link_cost = 0;  // link: to the next virtual stage
  std::vector<double> activation_here, gradient_here;         // inputs of forward and backward
  std::vector<double> backward_end;
  std::vector<double> gradient_left;         // the gradient that backward sent is through
  std::vector<std::int64_t> before_in_slot;  // micro-batch that had the slot before, or -1
};

struct Rank {
  RankSchedule schedule;
  std::size_t next = 0;
  double free = 0;
};

double checked(double seconds) {
  TESSERA_CHECK(std::isfinite(seconds) && seconds >= 0);
  return seconds;
}

class Simulation {
 public:
  Simulation(const ScheduleShape& shape, const StageCosts& costs);
  Timeline run();

 private:
  bool last(std::int64_t stage) const { return stage + 1 == shape_.stages * shape_.chunks; }
  std::int64_t rank_of(std::int64_t stage) const { return stage % shape_.stages; }
  VirtualStage& at(std::int64_t stage) { return stages_[static_cast<std::size_t>(stage)]; }
  // Two links a rank: to its successor and to its predecessor; between two stages these are one.
  Link& link(std::int64_t from, std::int64_t to) {
    const bool successor = to == (from + 1) % shape_.stages;
    return links_[static_cast<std::size_t>(2 * from + (successor ? 0 : 1))];
  }

  // Both return whether anything happened.
  bool advance(std::size_t rank);
  bool advance(Link& link);
  // When the input and the buffers of an instruction are ready.
  double ready(const Instruction& instruction, std::int64_t stage);
  void produce(const Message& message);
  void deliver(const Message& message, double through);

  ScheduleShape shape_;
  const StageCosts& costs_;
  double busy_ = 0;
  std::vector<Rank> ranks_;
  std::vector<Link> links_;
  std::vector<VirtualStage> stages_;
  Timeline timeline_;
};

Simulation::Simulation(const ScheduleShape& shape, const StageCosts& costs)
    : shape_(shape), costs_(costs), links_(static_cast<std::size_t>(2 * shape.stages)) {
  const std::vector<double> unknown(static_cast<std::size_t>(shape.micro_batches), kUnknown);
  for (std::int64_t stage = 0; stage < shape.stages * shape.chunks; ++stage)
    stages_.push_back({.forward_cost = checked(costs.compute(Action::forward, stage)),
                       .backward_cost = checked(costs.compute(Action::backward, stage)),
                       .link_cost = last(stage) ? 0 : checked(costs.link(stage)),
                       .activation_here = unknown,
                       .gradient_here = unknown,
                       .backward_end = unknown,
                       .gradient_left = unknown,
                       .before_in_slot = std::vector<std::int64_t>(unknown.size(), -1)});
  // The ends of the pipeline wait for nobody.
  at(0).activation_here.assign(unknown.size(), 0);
  stages_.back().gradient_here.assign(unknown.size(), 0);

  for (std::int64_t rank = 0; rank < shape.stages; ++rank) {
    ranks_.push_back({.schedule = make_schedule(shape, rank)});
    std::vector<std::vector<std::int64_t>> holder;  // chunk, slot
    for (const std::int64_t slots : ranks_.back().schedule.slots)
      holder.emplace_back(static_cast<std::size_t>(slots), -1);
    for (const Instruction& i : ranks_.back().schedule.instructions) {
      if (i.action != Action::forward) continue;
      std::int64_t& in_slot =
          holder[static_cast<std::size_t>(i.chunk)][static_cast<std::size_t>(i.slot)];
      at(i.chunk * shape.stages + rank).before_in_slot[static_cast<std::size_t>(i.micro_batch)] =
          in_slot;
      in_slot = i.micro_batch;
    }
  }
  timeline_.ranks.resize(ranks_.size());
}

double Simulation::ready(const Instruction& instruction, std::int64_t stage) {
  const auto m = static_cast<std::size_t>(instruction.micro_batch);
  if (instruction.action == Action::forward) return at(stage).activation_here[m];
  // The buffer that the new gradient is sent from must be free again.
  const bool reused = stage > 0 && instruction.micro_batch >= kGradientBuffers;
  return std::max(at(stage).gradient_here[m],
                  reused ? at(stage).gradient_left[m - kGradientBuffers] : 0.0);
}

void Simulation::deliver(const Message& message, double through) {
  if (message.consumer > message.producer) {
    at(message.consumer).activation_here[message.micro_batch] = through;
  } else {
    at(message.consumer).gradient_here[message.micro_batch] = through;
    at(message.producer).gradient_left[message.micro_batch] = through;
  }
}

void Simulation::produce(const Message& message) {
  const std::int64_t from = rank_of(message.producer), to = rank_of(message.consumer);
  if (from == to)
    deliver(message, message.produced);
  else
    link(from, to).messages.push_back(message);
}

bool Simulation::advance(std::size_t index) {
  Rank& rank = ranks_[index];
  const std::size_t begin = rank.next;
  for (; rank.next < rank.schedule.instructions.size(); ++rank.next) {
    const Instruction& instruction = rank.schedule.instructions[rank.next];
    const std::int64_t stage = instruction.chunk * shape_.stages + static_cast<std::int64_t>(index);
    const double can_start = ready(instruction, stage);
    if (can_start == kUnknown) break;
    const bool forward = instruction.action == Action::forward;
    const double start = std::max(rank.free, can_start);
    double end = start + (forward ? at(stage).forward_cost : at(stage).backward_cost);
    busy_ += end - start;
    if (forward && instruction.micro_batch == 0 && costs_.first_wait)
      end += checked(costs_.first_wait(stage, start));
    rank.free = end;
    timeline_.ranks[index].push_back({instruction, start, end});
    const auto m = static_cast<std::size_t>(instruction.micro_batch);
    if (!forward) at(stage).backward_end[m] = end;
    if (forward ? !last(stage) : stage > 0)
      produce({stage, forward ? stage + 1 : stage - 1, m, end});
  }
  return rank.next != begin;
}

bool Simulation::advance(Link& link) {
  const std::size_t begin = link.next;
  for (; link.next < link.messages.size(); ++link.next) {
    const Message& message = link.messages[link.next];
    const VirtualStage& consumer = at(message.consumer);
    const bool activation = message.consumer > message.producer;
    const std::int64_t before =
        activation ? consumer.before_in_slot[message.micro_batch]
                   : static_cast<std::int64_t>(message.micro_batch) - kGradientBuffers;
    const double buffer =
        before < 0 ? 0.0 : consumer.backward_end[static_cast<std::size_t>(before)];
    if (buffer == kUnknown) break;
    link.free = std::max({link.free, message.produced, buffer}) +
                at(std::min(message.producer, message.consumer)).link_cost;
    deliver(message, link.free);
  }
  return link.next != begin;
}

Timeline Simulation::run() {
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) moved |= advance(rank);
    for (Link& each : links_) moved |= advance(each);
  }
  for (const Rank& rank : ranks_) {
    const bool deadlock = rank.next != rank.schedule.instructions.size();
    TESSERA_CHECK(!deadlock);
    timeline_.seconds = std::max(timeline_.seconds, rank.free);
  }
  if (timeline_.seconds > 0)
    timeline_.bubble = 1 - busy_ / (static_cast<double>(ranks_.size()) * timeline_.seconds);
  return std::move(timeline_);
}

}  // namespace

Timeline simulate(const ScheduleShape& shape, const StageCosts& costs) {
  return Simulation(shape, costs).run();
}

}  // namespace tessera::parallel
