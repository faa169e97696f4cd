// What a schedule promises of one rank: each forward and backward once and in order, slots that
// never clash and are as few as they can be, the published orders; and what check_shape refuses.
#include "parallel/schedule.h"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/parallel/shapes.h"

namespace tessera::parallel {
namespace {

using enum PipelineSchedule;

// "F0 F1 B0 ..."; with chunks "F0.1" is micro-batch 0 in chunk 1.
std::string text(const ScheduleShape& shape, std::int64_t stage) {
  std::string result;
  for (const Instruction& i : make_schedule(shape, stage).instructions) {
    result += result.empty() ? "" : " ";
    result += (i.action == Action::forward ? 'F' : 'B') + std::to_string(i.micro_batch);
    if (shape.chunks > 1) result += '.' + std::to_string(i.chunk);
  }
  return result;
}

// Slots of a chunk of the interleaved schedule. Stage s runs w + 1 = (C - 1) S + u forwards,
// u = 2 (S - s) - 1, before its first backward, and then one of each. What chunk c holds grows
// until its backwards of a group begin, with backward (C - 1 - c) S; by then e = (2 C - 2 - c) S +
// u - c S forwards have begun since the chunk's first: its S of the first group and, behind the
// other chunks' (C - 1) S, its S of the second.
std::int64_t interleaved_slots(const ScheduleShape& shape, std::int64_t stage, std::int64_t chunk) {
  const std::int64_t s = shape.stages, c = shape.chunks;
  const std::int64_t e = (2 * c - 2 - 2 * chunk) * s + 2 * (s - stage) - 1;
  return std::min(shape.micro_batches,
                  std::clamp<std::int64_t>(e, 0, s) + std::clamp<std::int64_t>(e - c * s, 0, s));
}

TEST(Schedule, EachForwardAndBackwardOnceAndInOrder) {
  for (const ScheduleShape& shape : all_shapes()) {
    SCOPED_TRACE(name(shape));
    for (const RankSchedule& schedule : schedules(shape)) {
      ASSERT_EQ(std::ssize(schedule.instructions), 2 * shape.chunks * shape.micro_batches);
      std::vector<std::int64_t> forwards(static_cast<std::size_t>(shape.chunks)),
          backwards(forwards);
      for (const Instruction& i : schedule.instructions) {
        ASSERT_TRUE(0 <= i.chunk && i.chunk < shape.chunks);
        const auto chunk = static_cast<std::size_t>(i.chunk);
        // The n-th of a chunk is micro-batch n: nothing twice, nothing left out, in order.
        ASSERT_EQ(i.micro_batch, (i.action == Action::forward ? forwards : backwards)[chunk]++);
        ASSERT_LE(backwards[chunk], forwards[chunk]) << "backward before its forward";
      }
      for (const std::int64_t n : forwards) ASSERT_EQ(n, shape.micro_batches);
      for (const std::int64_t n : backwards) ASSERT_EQ(n, shape.micro_batches);
    }
  }
}

TEST(Schedule, SlotsNeverClashAndArePeak) {
  for (const ScheduleShape& shape : all_shapes()) {
    SCOPED_TRACE(name(shape));
    for (const RankSchedule& schedule : schedules(shape)) {
      ASSERT_EQ(std::ssize(schedule.slots), shape.chunks);
      std::vector<std::map<std::int64_t, std::int64_t>> held(schedule.slots.size());
      std::vector<std::size_t> most(schedule.slots.size());
      for (const Instruction& i : schedule.instructions) {
        const auto chunk = static_cast<std::size_t>(i.chunk);
        if (i.action == Action::forward) {
          for (std::int64_t slot = 0; slot < i.slot && shape.kind != eager_one_f_one_b; ++slot)
            ASSERT_TRUE(held[chunk].contains(slot)) << "a lower slot was free";
          ASSERT_TRUE(held[chunk].emplace(i.slot, i.micro_batch).second) << "slot in use";
          most[chunk] = std::max(most[chunk], held[chunk].size());
        } else {
          ASSERT_EQ(held[chunk].at(i.slot), i.micro_batch);
          held[chunk].erase(i.slot);
        }
      }
      for (std::size_t chunk = 0; chunk < most.size(); ++chunk)
        ASSERT_EQ(schedule.slots[chunk],
                  shape.kind == eager_one_f_one_b
                      ? std::min(1 + static_cast<std::int64_t>(most[chunk]), shape.micro_batches)
                      : static_cast<std::int64_t>(most[chunk]));
    }
  }
}

TEST(Schedule, SlotsFollowTheFormulas) {
  for (const ScheduleShape& shape : all_shapes()) {
    SCOPED_TRACE(name(shape));
    for (std::int64_t stage = 0; stage < shape.stages; ++stage)
      for (std::int64_t chunk = 0; chunk < shape.chunks; ++chunk) {
        const std::int64_t slots =
            make_schedule(shape, stage).slots[static_cast<std::size_t>(chunk)];
        const std::int64_t m = shape.micro_batches;
        ASSERT_EQ(slots, shape.kind == gpipe               ? m
                         : shape.kind == one_f_one_b       ? std::min(shape.stages - stage, m)
                         : shape.kind == eager_one_f_one_b ? std::min(2 * (shape.stages - stage), m)
                                                           : interleaved_slots(shape, stage, chunk))
            << "stage " << stage << ", chunk " << chunk;
      }
  }
}

// Before its first backward no stage runs more forwards than the schedule says, and from then on
// one of each: the memory of 1F1B and of the interleaved schedule does not grow with the
// micro-batches.
TEST(Schedule, ForwardsAheadOfBackwards) {
  for (const ScheduleShape& shape : all_shapes()) {
    if (shape.kind == gpipe) continue;
    SCOPED_TRACE(name(shape));
    for (std::int64_t stage = 0; stage < shape.stages; ++stage) {
      const std::int64_t hops = shape.stages - stage - 1;
      const std::int64_t ahead = std::min(
          1 + (shape.kind == one_f_one_b ? hops : 2 * hops + (shape.chunks - 1) * shape.stages),
          shape.chunks * shape.micro_batches);
      std::int64_t now = 0, most = 0;
      for (const Instruction& i : make_schedule(shape, stage).instructions)
        most = std::max(most, now += i.action == Action::forward ? 1 : -1);
      ASSERT_EQ(most, ahead);
    }
  }
}

TEST(Schedule, PublishedOrders) {
  EXPECT_EQ(text({gpipe, 4, 1, 3}, 2), "F0 F1 F2 B0 B1 B2");
  EXPECT_EQ(text({one_f_one_b, 4, 1, 5}, 0), "F0 F1 F2 F3 B0 F4 B1 B2 B3 B4");
  EXPECT_EQ(text({one_f_one_b, 4, 1, 5}, 2), "F0 F1 B0 F2 B1 F3 B2 F4 B3 B4");
  EXPECT_EQ(text({one_f_one_b, 4, 1, 5}, 3), "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4");
  EXPECT_EQ(text({one_f_one_b, 4, 1, 2}, 0), "F0 F1 B0 B1");
  EXPECT_EQ(text({eager_one_f_one_b, 2, 1, 5}, 0), "F0 F1 F2 B0 F3 B1 F4 B2 B3 B4");
  EXPECT_EQ(text({eager_one_f_one_b, 2, 1, 5}, 1), "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4");
  EXPECT_EQ(text({eager_one_f_one_b, 4, 1, 9}, 1),
            "F0 F1 F2 F3 F4 B0 F5 B1 F6 B2 F7 B3 F8 B4 B5 B6 B7 B8");
  EXPECT_EQ(text({interleaved, 2, 2, 4}, 0),
            "F0.0 F1.0 F0.1 F1.1 F2.0 B0.1 F3.0 B1.1 F2.1 B0.0 F3.1 B1.0 B2.1 B3.1 B2.0 B3.0");
  EXPECT_EQ(text({interleaved, 2, 2, 4}, 1),
            "F0.0 F1.0 F0.1 B0.1 F1.1 B1.1 F2.0 B0.0 F3.0 B1.0 F2.1 B2.1 F3.1 B3.1 B2.0 B3.0");
}

TEST(Schedule, OneStageTurnsByTurn) {
  EXPECT_EQ(text({one_f_one_b, 1, 1, 3}, 0), "F0 B0 F1 B1 F2 B2");
  EXPECT_EQ(text({interleaved, 1, 1, 2}, 0), "F0 B0 F1 B1");
  EXPECT_EQ(text({interleaved, 1, 2, 2}, 0), "F0.0 F0.1 B0.1 F1.0 B0.0 F1.1 B1.1 B1.0");
}

TEST(Schedule, IdealBubble) {
  EXPECT_DOUBLE_EQ(ideal_bubble({gpipe, 4, 1, 8}), 3.0 / 11);
  EXPECT_DOUBLE_EQ(ideal_bubble({one_f_one_b, 4, 1, 8}), 3.0 / 11);
  EXPECT_DOUBLE_EQ(ideal_bubble({interleaved, 4, 2, 8}), 3.0 / 19);
  for (const auto kind : {gpipe, one_f_one_b, interleaved})
    EXPECT_DOUBLE_EQ(ideal_bubble({kind, 1, 1, 5}), 0.0);
}

struct Refusal {
  ScheduleShape shape;
  std::vector<std::string> words;  // the key, what was found, a value that works
};

TEST(Schedule, RefusalsNameKeyValueAndCure) {
  const std::vector<Refusal> refusals = {
      {{one_f_one_b, 0, 1, 1}, {"parallel.pipeline: found 0", "set parallel.pipeline: 1"}},
      {{interleaved, 2, 0, 2},
       {"parallel.virtual_stages: found 0", "set parallel.virtual_stages: 1"}},
      {{one_f_one_b, 2, 1, 0}, {"train.global_batch", " 0 micro-batches", "set it to 1 x "}},
      {{interleaved, 3, 2, -3}, {"train.global_batch", " -3 micro-batches", "set it to 3 x "}},
      {{gpipe, 2, 2, 4},
       {"parallel.virtual_stages: found 2", "schedule: gpipe", "set parallel.virtual_stages: 1",
        "parallel.schedule: interleaved"}},
      {{one_f_one_b, 2, 3, 4}, {"parallel.virtual_stages: found 3", "schedule: 1f1b"}},
      {{interleaved, 4, 2, 10},
       {"train.global_batch", " 10 micro-batches", "parallel.pipeline = 4", "make them 8 or 12 "}},
      {{interleaved, 4, 2, 3}, {"train.global_batch", " 3 micro-batches", "make them 4 "}},
      {{one_f_one_b, 2, 1, 1'000'001},
       {"train.global_batch", " 1000001 micro-batches", "1000000 micro-batches or fewer"}},
      {{interleaved, 1, 1'000'000'000, 2},
       {"train.global_batch", "1000000000 forwards", "1 micro-batches or fewer"}},
  };
  for (const auto& [shape, words] : refusals) {
    SCOPED_TRACE(name(shape));
    try {
      check_shape(shape);
      ADD_FAILURE() << "not refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), Category::config);
      for (const std::string& word : words)
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
            << "'" << word << "' is not in: " << error.what();
    }
    // The generators are for shapes that were checked.
    EXPECT_THROW(make_schedule(shape, 0), Error);
    EXPECT_THROW(ideal_bubble(shape), Error);
  }
}

TEST(Schedule, AcceptsWhatItRuns) {
  for (const ScheduleShape& shape : all_shapes())
    EXPECT_NO_THROW(check_shape(shape)) << name(shape);
  EXPECT_THROW(make_schedule({one_f_one_b, 2, 1, 4}, 2), Error);
  EXPECT_THROW(make_schedule({one_f_one_b, 2, 1, 4}, -1), Error);
}

}  // namespace
}  // namespace tessera::parallel
