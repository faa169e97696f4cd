// Messages between ranks (docs/parallel.md, "Links"), on a machine without a clock that knows
// nothing of the simulation: every link is a queue in the sender's order, a message passes only
// when its buffer at the receiver is free, and buffers hold names of what is in them.
#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "parallel/schedule.h"
#include "tests/parallel/shapes.h"

namespace tessera::parallel {
namespace {

// What travels: the input of `action` of a virtual stage.
struct Parcel {
  Action action = Action::forward;
  std::int64_t stage = 0, micro_batch = 0;
  auto operator<=>(const Parcel&) const = default;
};
using LinkName = std::pair<std::int64_t, std::int64_t>;  // from, to

// What the instruction needs from another virtual stage and what it makes for one; nothing at the
// ends of the pipeline.
std::vector<Parcel> input(const Instruction& i, std::int64_t stage, std::int64_t last) {
  if (stage == (i.action == Action::forward ? 0 : last)) return {};
  return {{i.action, stage, i.micro_batch}};
}
std::vector<Parcel> output(const Instruction& i, std::int64_t stage, std::int64_t last) {
  if (stage == (i.action == Action::forward ? last : 0)) return {};
  return {{i.action, stage + (i.action == Action::forward ? 1 : -1), i.micro_batch}};
}

TEST(Links, SendersAndReceiversAgreeOnTheOrder) {
  std::int64_t wrapped = 0;
  for (const ScheduleShape& shape : all_shapes()) {
    SCOPED_TRACE(name(shape));
    const std::int64_t last = shape.stages * shape.chunks - 1;
    std::map<LinkName, std::vector<Parcel>> sent, taken;
    const std::vector<RankSchedule> all = schedules(shape);
    for (std::int64_t rank = 0; rank < shape.stages; ++rank)
      for (const Instruction& i : all[static_cast<std::size_t>(rank)].instructions) {
        const std::int64_t stage = i.chunk * shape.stages + rank;
        for (const Parcel& p : output(i, stage, last))
          sent[{rank, p.stage % shape.stages}].push_back(p);
        for (const Parcel& p : input(i, stage, last)) {
          const std::int64_t from = p.stage + (p.action == Action::forward ? -1 : 1);
          taken[{from % shape.stages, rank}].push_back(p);
        }
      }
    ASSERT_EQ(sent, taken);
    for (const auto& [link, parcels] : sent) {
      // Neighbours alone, the last and the first among them when there are chunks.
      const std::int64_t hop = std::abs(link.first - link.second);
      ASSERT_TRUE(hop <= 1 || (shape.chunks > 1 && hop == shape.stages - 1));
      if (hop > 1) ++wrapped;
    }
  }
  EXPECT_GT(wrapped, 100) << "the links from the last rank to the first were hardly tested";
}

class Machine {
 public:
  Machine(const ScheduleShape& shape, const std::vector<RankSchedule>& all, std::uint64_t seed)
      : shape_(shape), last_(shape.stages * shape.chunks - 1), random_(seed) {
    for (const RankSchedule& schedule : all) {
      const std::int64_t rank = std::ssize(ranks_);
      for (const Instruction& i : schedule.instructions)
        slot_of_[{i.chunk * shape.stages + rank, i.micro_batch}] = i.slot;
      ranks_.push_back({schedule, 0});
    }
  }

  // Lets ranks and links go on in a random order until nothing can; true when all is done.
  bool run() {
    std::vector<std::int64_t> who(static_cast<std::size_t>(shape_.stages));
    for (std::size_t i = 0; i < who.size(); ++i) who[i] = static_cast<std::int64_t>(i);
    for (bool moved = true; moved;) {
      moved = false;
      std::shuffle(who.begin(), who.end(), random_);
      for (const std::int64_t rank : who) {
        moved |= step(rank);
        for (const std::int64_t to : who)
          if (random_() % 2 == 0 || !moved) moved |= pass(rank, to);
      }
      if (!moved)  // links that the dice left out
        for (const std::int64_t from : who)
          for (const std::int64_t to : who) moved |= pass(from, to);
    }
    return std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) {
      return rank.next == rank.schedule.instructions.size();
    });
  }

  bool clean() const { return slots_.empty() && gradients_.empty() && leaving_.empty(); }

 private:
  struct Rank {
    RankSchedule schedule;
    std::size_t next;
  };
  // By virtual stage and number of a buffer in use: the micro-batch in it.
  using Buffers = std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t>;

  bool step(std::int64_t index) {
    Rank& rank = ranks_[static_cast<std::size_t>(index)];
    if (rank.next == rank.schedule.instructions.size()) return false;
    const Instruction& i = rank.schedule.instructions[rank.next];
    const std::int64_t stage = i.chunk * shape_.stages + index, m = i.micro_batch;
    const auto here = std::pair(stage, i.slot);
    if (i.action == Action::forward) {
      if (stage == 0) {
        EXPECT_FALSE(slots_.contains(here));
        slots_[here] = m;
      }
      if (stage > 0 && !arrived_.contains({i.action, stage, m})) return false;
    } else {
      if (stage < last_ && !arrived_.contains({i.action, stage, m})) return false;
      if (stage > 0 && leaving_.contains({stage, m % 2})) return false;
    }
    EXPECT_EQ(slots_.at(here), m) << "another micro-batch is in the slot";
    if (i.action == Action::backward) {
      slots_.erase(here);
      if (stage < last_) {
        EXPECT_EQ(gradients_.extract(std::pair(stage, m % 2)).mapped(), m);
      }
      if (stage > 0) leaving_[{stage, m % 2}] = m;
    }
    for (const Parcel& p : output(i, stage, last_))
      links_[{index, p.stage % shape_.stages}].push_back(p);
    ++rank.next;
    return true;
  }

  // The first message of a link, if its buffer is free.
  bool pass(std::int64_t from, std::int64_t to) {
    std::deque<Parcel>& link = links_[{from, to}];
    if (link.empty()) return false;
    const Parcel p = link.front();
    const bool activation = p.action == Action::forward;
    const auto place =
        std::pair(p.stage, activation ? slot_of_.at({p.stage, p.micro_batch}) : p.micro_batch % 2);
    if (!(activation ? slots_ : gradients_).emplace(place, p.micro_batch).second) return false;
    if (!activation) {
      EXPECT_EQ(leaving_.extract(std::pair(p.stage + 1, p.micro_batch % 2)).mapped(),
                p.micro_batch);
    }
    arrived_.insert(p);
    link.pop_front();
    return true;
  }

  ScheduleShape shape_;
  std::int64_t last_;
  std::mt19937_64 random_;
  std::vector<Rank> ranks_;
  std::map<LinkName, std::deque<Parcel>> links_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> slot_of_;  // stage, micro-batch
  std::set<Parcel> arrived_;
  Buffers slots_, gradients_, leaving_;  // leaving: gradients that are not through yet
};

TEST(Links, NoDeadlockWithBlockingLinksAndFewBuffers) {
  std::uint64_t seed = 1;
  for (const ScheduleShape& shape : all_shapes()) {
    SCOPED_TRACE(name(shape));
    const std::vector<RankSchedule> all = schedules(shape);
    for (int times = 0; times < 2; ++times) {
      Machine machine(shape, all, seed++);
      ASSERT_TRUE(machine.run()) << "deadlock";
      ASSERT_TRUE(machine.clean());
    }
  }
}

// The machine does find deadlocks: the last stage wants micro-batch 1 before micro-batch 0.
TEST(Links, MachineFindsADeadlock) {
  const ScheduleShape shape{PipelineSchedule::one_f_one_b, 2, 1, 2};
  std::vector<RankSchedule> all = schedules(shape);
  for (Instruction& i : all[1].instructions) i.micro_batch = 1 - i.micro_batch;
  EXPECT_FALSE(Machine(shape, all, 1).run());
}

}  // namespace
}  // namespace tessera::parallel
