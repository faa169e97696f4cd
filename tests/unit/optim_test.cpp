// Learning-rate schedules at their end points, and who owns which part of the flat space.
#include <gtest/gtest.h>

#include "optim/adamw.h"
#include "optim/ownership.h"
#include "optim/schedule.h"

namespace tessera::optim {
namespace {

OptimizerConfig recipe(LearningRateSchedule schedule) {
  OptimizerConfig c;
  c.lr = 1e-3;
  c.warmup = 20;
  c.min_lr_ratio = 0.1;
  c.schedule = schedule;
  return c;
}

TEST(Schedule, WarmUpIsLinearInAll) {
  for (const auto s :
       {LearningRateSchedule::cosine, LearningRateSchedule::constant, LearningRateSchedule::wsd}) {
    const OptimizerConfig c = recipe(s);
    EXPECT_DOUBLE_EQ(learning_rate(c, 200, 1), 1e-3 / 20);
    EXPECT_DOUBLE_EQ(learning_rate(c, 200, 10), 1e-3 / 2);
    EXPECT_DOUBLE_EQ(learning_rate(c, 200, 20), 1e-3);
  }
}

TEST(Schedule, CosineEndPoints) {
  const OptimizerConfig c = recipe(LearningRateSchedule::cosine);
  EXPECT_LT(learning_rate(c, 200, 21), 1e-3);
  EXPECT_NEAR(learning_rate(c, 200, 110), 1e-3 * 0.55, 1e-12);  // half way
  EXPECT_DOUBLE_EQ(learning_rate(c, 200, 200), 1e-4);
  for (std::int64_t n = 21; n <= 200; ++n)
    EXPECT_LT(learning_rate(c, 200, n), learning_rate(c, 200, n - 1));
}

TEST(Schedule, ConstantStays) {
  const OptimizerConfig c = recipe(LearningRateSchedule::constant);
  EXPECT_DOUBLE_EQ(learning_rate(c, 200, 200), 1e-3);
}

TEST(Schedule, WarmupStableDecay) {
  OptimizerConfig c = recipe(LearningRateSchedule::wsd);
  c.decay_steps = 50;
  EXPECT_DOUBLE_EQ(learning_rate(c, 200, 150), 1e-3);
  EXPECT_LT(learning_rate(c, 200, 151), 1e-3);
  EXPECT_NEAR(learning_rate(c, 200, 175), 1e-3 * 0.55, 1e-12);
  EXPECT_DOUBLE_EQ(learning_rate(c, 200, 200), 1e-4);
  c.decay_steps = 0;  // a tenth of the steps
  EXPECT_DOUBLE_EQ(learning_rate(c, 200, 180), 1e-3);
  EXPECT_LT(learning_rate(c, 200, 181), 1e-3);
}

TEST(Schedule, NoWarmUpStartsAtThePeak) {
  OptimizerConfig c = recipe(LearningRateSchedule::constant);
  c.warmup = 0;
  EXPECT_DOUBLE_EQ(learning_rate(c, 10, 1), 1e-3);
}

model::ParameterTable table() {
  model::ParameterTable t;
  t.add("a", {7, 5}, model::Initial::normal);
  t.add("b", {3}, model::Initial::zeros);
  t.add("c", {100, 11}, model::Initial::normal);
  return t;
}

TEST(Ownership, SlicesCoverEveryElementOnce) {
  const auto t = table();
  for (std::int64_t replicas = 1; replicas <= 9; ++replicas) {
    std::vector<int> seen(static_cast<std::size_t>(t.flat_size()), 0);
    const Partition partition(t.flat_size(), replicas, 150);
    EXPECT_GT(partition.buckets().size(), 3U);
    EXPECT_EQ(partition.buckets().front().begin, 0);
    EXPECT_EQ(partition.buckets().back().end, partition.padded());
    for (std::int64_t r = 0; r < replicas; ++r) {
      const std::vector<Slice> slices = partition.owned(r);
      ASSERT_EQ(slices.size(), partition.buckets().size());
      for (std::size_t b = 0; b < slices.size(); ++b) {
        EXPECT_EQ(slices[b].count() * replicas, partition.buckets()[b].count());
        EXPECT_EQ(slices[b].begin % 16, 0);
      }
      for (const Segment& s : segments(t, slices)) {
        EXPECT_EQ(s.offset, t[s.tensor].offset + s.begin);
        for (std::int64_t i = 0; i < s.count(); ++i) ++seen[static_cast<std::size_t>(s.offset + i)];
      }
    }
    std::int64_t owned = 0;
    for (const int n : seen) {
      EXPECT_LE(n, 1);
      owned += n;
    }
    EXPECT_EQ(owned, t.total());
  }
}

// An update slice by slice gives the bits of one at once; what a slice owns is done when it is
// named, and nothing behind it.
TEST(AdamWSlices, OneAfterTheOther) {
  const auto t = table();
  const Partition partition(t.flat_size(), 2, 150);
  const std::vector<Slice> slices = partition.owned(1);
  ASSERT_GT(slices.size(), 3U);
  const auto size = static_cast<std::size_t>(partition.padded());
  std::vector<double> gradient(size, 0.25), at_once(size, 1.0), parameters(size, 1.0);
  const auto update = [&](std::vector<double>& values, const auto& done) {
    AdamW<double> optimizer(OptimizerConfig{}, t, slices);
    MemoryPlan plan;
    optimizer.plan(plan);
    const Arena arena(plan);
    optimizer.bind(arena, {});
    optimizer.update(values.data(), gradient.data(), 1, 1e-2, 0.5, done);
  };
  update(at_once, std::function<void(std::size_t)>());
  EXPECT_NE(at_once, parameters);
  std::size_t next = 0;
  update(parameters, [&](std::size_t slice) {
    ASSERT_EQ(slice, next++);
    const auto end = static_cast<std::size_t>(slices[slice].end);
    for (std::size_t i = 0; i < size; ++i)
      ASSERT_EQ(parameters[i], i < end ? at_once[i] : 1.0) << "slice " << slice << ", " << i;
  });
  EXPECT_EQ(next, slices.size());
  EXPECT_EQ(parameters, at_once);
}

// The same update whether one replica owns all or three own a slice each; decay on matrices alone.
TEST(AdamWSlices, EqualTheWhole) {
  const auto t = table();
  OptimizerConfig config;
  config.decay = Decay::matrices;
  const auto size = static_cast<std::size_t>(Partition(t.flat_size(), 3, 150).padded());
  std::vector<double> start(size), gradient(size);
  for (std::size_t i = 0; i < size; ++i) {
    start[i] = 0.01 * double(i % 17);
    gradient[i] = 0.1 * double(i % 13) - 0.5;
  }
  const auto updated = [&](std::int64_t replicas) {
    std::vector<double> parameters = start;
    for (std::int64_t r = 0; r < replicas; ++r) {
      AdamW<double> optimizer(config, t, Partition(t.flat_size(), replicas, 150).owned(r));
      MemoryPlan plan;
      optimizer.plan(plan);
      const Arena arena(plan);
      optimizer.bind(arena, {});
      for (std::int64_t n = 1; n <= 3; ++n)
        optimizer.update(parameters.data(), gradient.data(), n, 1e-2, 0.5);
    }
    return parameters;
  };
  const auto whole = updated(1);
  EXPECT_EQ(whole, updated(3));
  EXPECT_NE(whole, start);
  // A bias with zero gradient stays, a matrix element with zero gradient decays.
  std::fill(gradient.begin(), gradient.end(), 0.0);
  const auto decayed = updated(1);
  EXPECT_EQ(decayed[static_cast<std::size_t>(t[1].offset + 1)],
            start[static_cast<std::size_t>(t[1].offset + 1)]);
  EXPECT_LT(decayed[1], start[1]);
}

}  // namespace
}  // namespace tessera::optim
