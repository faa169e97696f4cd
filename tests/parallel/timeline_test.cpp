// Times of pipelines: the ideal bubbles exactly, small cases worked out by hand, and what must hold
// for any costs.
#include "parallel/timeline.h"

#include <chrono>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/parallel/shapes.h"

namespace tessera::parallel {
namespace {

using enum PipelineSchedule;

StageCosts equal_costs(double forward, double backward, double link = 0) {
  return {
      [=](Action action, std::int64_t) { return action == Action::forward ? forward : backward; },
      [=](std::int64_t) { return link; }};
}

double time_of(const Timeline& timeline, std::size_t rank, std::size_t instruction) {
  return timeline.ranks.at(rank).at(instruction).start;
}

TEST(Timeline, EqualCostsAndFreeLinksGiveTheIdealBubble) {
  for (const ScheduleShape& shape : all_shapes())
    for (const double backward : {1.0, 2.0, 3.0, 0.5}) {
      const Timeline timeline = simulate(shape, equal_costs(1, backward));
      const auto turns = static_cast<double>(shape.chunks * shape.micro_batches + shape.stages - 1);
      EXPECT_NEAR(timeline.bubble, ideal_bubble(shape), 1e-12) << name(shape) << ", " << backward;
      EXPECT_DOUBLE_EQ(timeline.seconds, turns * (1 + backward)) << name(shape) << ", " << backward;
    }
}

// Two stages, two micro-batches, 1F1B; stage 0 waits half a second for parameters within its first
// forward, those of stage 1 come at 3. Nothing but the first micro-batch asks.
TEST(Timeline, AFirstForwardWaitsWithinItself) {
  StageCosts costs = equal_costs(1, 2);
  std::vector<std::pair<std::int64_t, double>> asked;
  costs.first_wait = [&](std::int64_t stage, double start) {
    asked.emplace_back(stage, start);
    return stage == 0 ? 0.5 : std::max(0.0, 3 - (start + 0.5));  // needed half way through
  };
  const Timeline timeline = simulate({one_f_one_b, 2, 1, 2}, costs);
  EXPECT_EQ(asked, (std::vector<std::pair<std::int64_t, double>>{{0, 0.0}, {1, 1.5}}));
  const auto starts = [&](std::size_t rank) {
    std::vector<double> times;
    for (const Span& span : timeline.ranks.at(rank)) times.push_back(span.start);
    return times;
  };
  // Stage 0: F0 1.5 F1 2.5 .. B0 .. B1; stage 1: F0 takes 2, then B0, F1, B1.
  EXPECT_EQ(starts(0), (std::vector<double>{0, 1.5, 5.5, 8.5}));
  EXPECT_EQ(starts(1), (std::vector<double>{1.5, 3.5, 5.5, 6.5}));
  EXPECT_EQ(timeline.ranks[0][0].end, 1.5);
  EXPECT_EQ(timeline.ranks[1][0].end, 3.5);
  EXPECT_DOUBLE_EQ(timeline.seconds, 10.5);
  EXPECT_DOUBLE_EQ(timeline.bubble, 1 - 12 / 21.0);
}

// What every timeline keeps to, recomputed from the spans alone.
void check_dependencies(const ScheduleShape& shape, const StageCosts& costs,
                        const Timeline& timeline) {
  const std::int64_t last = shape.stages * shape.chunks - 1;
  std::map<std::tuple<Action, std::int64_t, std::int64_t>, Span> spans;
  ASSERT_EQ(std::ssize(timeline.ranks), shape.stages);
  double busy = 0, end = 0;
  for (std::int64_t rank = 0; rank < shape.stages; ++rank) {
    const auto& row = timeline.ranks[static_cast<std::size_t>(rank)];
    const RankSchedule schedule = make_schedule(shape, rank);
    ASSERT_EQ(row.size(), schedule.instructions.size());
    double free = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const Instruction& instruction = schedule.instructions[i];
      ASSERT_EQ(row[i].instruction, instruction);
      ASSERT_GE(row[i].start, free) << "two instructions at once";
      free = row[i].end;
      const std::int64_t stage = instruction.chunk * shape.stages + rank;
      ASSERT_DOUBLE_EQ(row[i].end, row[i].start + costs.compute(instruction.action, stage));
      busy += row[i].end - row[i].start;
      spans[{instruction.action, stage, instruction.micro_batch}] = row[i];
    }
    end = std::max(end, free);
  }
  EXPECT_DOUBLE_EQ(timeline.seconds, end);
  EXPECT_NEAR(timeline.bubble, 1 - busy / (end * static_cast<double>(shape.stages)), 1e-12);
  for (const auto& [key, span] : spans) {
    const auto& [action, stage, micro_batch] = key;
    const bool forward = action == Action::forward;
    if (!forward) {
      ASSERT_GE(span.start, spans.at({Action::forward, stage, micro_batch}).end);
    }
    if (stage == (forward ? 0 : last)) continue;
    const std::int64_t from = forward ? stage - 1 : stage + 1;
    const double link = shape.stages == 1 ? 0 : costs.link(std::min(stage, from));
    ASSERT_GE(span.start, spans.at({action, from, micro_batch}).end + link);
  }
}

TEST(Timeline, AnyCostsKeepOrderAndDependencies) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> cost(0.1, 3);
  for (const ScheduleShape& shape : all_shapes()) {
    SCOPED_TRACE(name(shape));
    std::vector<double> forward, backward, link;
    for (std::int64_t i = 0; i < shape.stages * shape.chunks; ++i) {
      forward.push_back(cost(random));
      backward.push_back(cost(random));
      link.push_back(cost(random));
    }
    const StageCosts costs{
        [&](Action action, std::int64_t stage) {
          return (action == Action::forward ? forward : backward)[static_cast<std::size_t>(stage)];
        },
        [&](std::int64_t stage) { return link[static_cast<std::size_t>(stage)]; }};
    const Timeline slow = simulate(shape, costs);
    check_dependencies(shape, costs, slow);
    if (HasFatalFailure()) return;
    // Free links are no slower, and no rank is faster than its own work.
    const Timeline fast = simulate(shape, {costs.compute, [](std::int64_t) { return 0.0; }});
    EXPECT_LE(fast.seconds, slow.seconds * (1 + 1e-12));
    for (std::int64_t rank = 0; rank < shape.stages; ++rank) {
      double work = 0;
      for (std::int64_t stage = rank; stage < shape.stages * shape.chunks; stage += shape.stages)
        work +=
            forward[static_cast<std::size_t>(stage)] + backward[static_cast<std::size_t>(stage)];
      EXPECT_GE(fast.seconds, work * static_cast<double>(shape.micro_batches) * (1 - 1e-12));
    }
  }
}

// Two stages, 2 micro-batches, forward 1, backward 2, link 1/2:
//   stage 0  F0 0-1      F1 1-2              B0 5-7    B1 8.5-10.5
//   stage 1  F0 1.5-2.5  B0 2.5-4.5  F1 5-6  B1 6-8
TEST(Timeline, TwoStagesByHand) {
  const Timeline t = simulate({one_f_one_b, 2, 1, 2}, equal_costs(1, 2, 0.5));
  EXPECT_EQ(time_of(t, 0, 0), 0);
  EXPECT_EQ(time_of(t, 0, 1), 1);
  EXPECT_EQ(time_of(t, 1, 0), 1.5);
  EXPECT_EQ(time_of(t, 1, 1), 2.5);
  EXPECT_EQ(time_of(t, 0, 2), 5);
  // Stage 1 has one slot: the second activation, there since 2, is taken when B0 has freed it.
  EXPECT_EQ(time_of(t, 1, 2), 5);
  EXPECT_EQ(time_of(t, 1, 3), 6);
  EXPECT_EQ(time_of(t, 0, 3), 8.5);
  EXPECT_EQ(t.seconds, 10.5);
  EXPECT_DOUBLE_EQ(t.bubble, 1 - 12 / 21.0);
}

// A slow stage sets the pace: the other waits for it. Forward 1 and 3, backward 2 and 6.
TEST(Timeline, ASlowStageSetsThePace) {
  const StageCosts costs{[](Action action, std::int64_t stage) {
                           return (action == Action::forward ? 1.0 : 2.0) * (stage == 1 ? 3 : 1);
                         },
                         [](std::int64_t) { return 0.0; }};
  const Timeline t = simulate({one_f_one_b, 2, 1, 4}, costs);
  // Stage 1 is filled by one forward of stage 0, works 4 x 9, and one backward of stage 0 drains.
  EXPECT_DOUBLE_EQ(t.seconds, 1 + 36 + 2);
  EXPECT_DOUBLE_EQ(t.bubble, 1 - (4 * 3 + 4 * 9) / (2 * 39.0));
}

// A link slower than computing sets the pace of GPipe's forwards, whose slots are all free:
// activation m is through at 1 + 5 (m + 1). Backwards: gradient 0 leaves at 17 + 2, m arrives at 19
// + 5 (m + 1).
TEST(Timeline, ASlowLinkSetsThePace) {
  const Timeline t = simulate({gpipe, 2, 1, 3}, equal_costs(1, 2, 5));
  for (std::size_t m = 0; m < 3; ++m) {
    EXPECT_EQ(time_of(t, 1, m), 6 + 5 * static_cast<double>(m));
    EXPECT_EQ(time_of(t, 0, 3 + m), 24 + 5 * static_cast<double>(m));
  }
  EXPECT_EQ(t.seconds, 36);
}

// Gradients are sent from two buffers: on a link of 100 the third backward of stage 1 (404 to 405
// otherwise) waits until the first gradient is through at 503, and the fourth until 603.
TEST(Timeline, GradientBuffersAreTwo) {
  const Timeline t = simulate({gpipe, 2, 1, 4}, equal_costs(1, 1, 100));
  // Activations at 101, 201, 301, 401; forwards end at 402; backwards 402-403, 403-404.
  EXPECT_EQ(time_of(t, 1, 4), 402);
  EXPECT_EQ(time_of(t, 1, 5), 403);
  EXPECT_EQ(time_of(t, 1, 6), 503);
  EXPECT_EQ(time_of(t, 1, 7), 603);
  EXPECT_EQ(time_of(t, 0, 7), 803);
  EXPECT_EQ(t.seconds, 804);
}

TEST(Timeline, OneStageIsNeverIdle) {
  for (const ScheduleShape shape :
       {ScheduleShape{gpipe, 1, 1, 7}, ScheduleShape{one_f_one_b, 1, 1, 7},
        ScheduleShape{interleaved, 1, 3, 7}}) {
    const Timeline t = simulate(shape, equal_costs(1, 2, 1000));  // nothing crosses ranks
    EXPECT_DOUBLE_EQ(t.seconds, 21 * static_cast<double>(shape.chunks));
    EXPECT_DOUBLE_EQ(t.bubble, 0);
  }
}

TEST(Timeline, FreeWorkTakesNoTime) {
  const Timeline t = simulate({one_f_one_b, 2, 1, 3}, equal_costs(0, 0));
  EXPECT_EQ(t.seconds, 0);
  EXPECT_EQ(t.bubble, 0);
}

TEST(Timeline, CostsAreFiniteAndNotNegative) {
  const ScheduleShape shape{one_f_one_b, 2, 1, 3};
  EXPECT_THROW(simulate(shape, equal_costs(-1, 1)), Error);
  EXPECT_THROW(simulate(shape, equal_costs(1, 1.0 / 0.0)), Error);
  EXPECT_THROW(simulate(shape, equal_costs(1, 1, 0.0 / 0.0)), Error);
}

// Chunks shorten the bubble and 1F1B costs no time against GPipe, as published.
TEST(Timeline, SchedulesCompare) {
  const auto half = [](double link) { return equal_costs(0.5, 1, link); };
  const double gpipe_time = simulate({gpipe, 4, 1, 8}, equal_costs(1, 2)).seconds;
  EXPECT_DOUBLE_EQ(simulate({one_f_one_b, 4, 1, 8}, equal_costs(1, 2)).seconds, gpipe_time);
  EXPECT_DOUBLE_EQ(simulate({interleaved, 4, 2, 8}, half(0)).seconds, gpipe_time - 4.5);
  // Each message is on the way of the filling pipeline: slower links, longer steps.
  EXPECT_GT(simulate({interleaved, 4, 2, 8}, half(0.25)).seconds,
            simulate({interleaved, 4, 2, 8}, half(0.1)).seconds);
}

TEST(Timeline, LargePipelinesAreFast) {
  const auto start = std::chrono::steady_clock::now();
  const ScheduleShape shape{interleaved, 64, 2, 512};
  EXPECT_NEAR(simulate(shape, equal_costs(1, 2)).bubble, ideal_bubble(shape), 1e-12);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took.count(), 5);  // 0.05 s measured; sanitizers and busy machines are slower
}

}  // namespace
}  // namespace tessera::parallel
