// Every layout of ranks trains the same model: losses, gradient norms and parameters equal those of
// one rank alone, and the same layout twice gives the same bits.
#include <gtest/gtest.h>
#include <mpi.h>

#include "comm/mpi_communicator.h"
#include "distributed/layouts.h"
#include "support/late_transport.h"

namespace tessera {
namespace {

using testing::kEager, testing::kGpipe, testing::kInterleaved, testing::kOneF;
using testing::Layout;
using testing::LayoutRun;

constexpr std::int64_t kBatch = 8;
constexpr int kSteps = 20;

const std::vector<Layout> kLayouts = {
    {1, 1, 1, kOneF, 0, 2},
    {1, 2, 1, kOneF, 0},
    {1, 2, 1, kOneF, 1, 2},
    {1, 2, 1, kOneF, 1, 4},
    {2, 1, 1, kGpipe, 0},
    {2, 1, 1, kOneF, 1},
    {2, 1, 1, kOneF, 0, 2},
    {2, 1, 1, kEager, 1},
    {2, 1, 2, kInterleaved, 1},
    {1, 4, 1, kOneF, 0},
    {1, 4, 1, kOneF, 1, 2},
    {4, 1, 1, kGpipe, 0},
    {4, 1, 1, kOneF, 1},
    {4, 1, 1, kEager, 1},
    {2, 2, 1, kGpipe, 1},
    {2, 2, 1, kOneF, 0},
    {2, 2, 1, kOneF, 1, 2},
    {2, 2, 1, kOneF, 1, 4},
    {2, 2, 2, kInterleaved, 1},
    {2, 2, 2, kInterleaved, 0, 1, GradientType::fp32, RankOrder::data_first},
};

constexpr std::int64_t kTinyBuckets = 1000;   // elements: a piece has several
constexpr std::int64_t kSmallBuckets = 5000;  // several, cut inside tensors
constexpr std::int64_t kOneBucket = 1 << 20;

parallel::EngineOptions buckets(std::int64_t elements) {
  parallel::EngineOptions options;
  options.bucket_elements = elements;
  return options;
}

class Layouts : public ::testing::TestWithParam<ModelConfig> {
 protected:
  LayoutRun run(const Layout& layout) { return run(layout, buckets(kSmallBuckets)); }
  LayoutRun run(const Layout& layout, const parallel::EngineOptions& options) {
    return testing::run_layout(testing::layout_config(GetParam(), layout, kBatch), Device::cpu,
                               *world_, kSteps, options);
  }
  LayoutRun alone() {
    const auto single = comm::make_single();
    return testing::run_layout(testing::layout_config(GetParam(), {}, kBatch), Device::cpu, *single,
                               kSteps, {});
  }
  std::unique_ptr<comm::Communicator> world_ = comm::make_mpi(MPI_COMM_WORLD);
};

TEST_P(Layouts, EqualOneRankAlone) {
  const LayoutRun expected = alone();
  int tried = 0;
  for (const Layout& layout : kLayouts) {
    if (layout.ranks() != world_->size()) continue;
    SCOPED_TRACE(layout.name());
    ++tried;
    const LayoutRun found = run(layout);
    ASSERT_EQ(found.losses.size(), expected.losses.size());
    for (std::size_t i = 0; i < expected.losses.size(); ++i) {
      EXPECT_NEAR(found.losses[i], expected.losses[i], 1e-6 * expected.losses[i]) << "step " << i;
      EXPECT_NEAR(found.norms[i], expected.norms[i], 1e-5 * expected.norms[i]) << "step " << i;
    }
    EXPECT_NEAR(found.evaluation, expected.evaluation, 1e-6 * expected.evaluation);
    EXPECT_FALSE(found.tensors.empty());
    for (const auto& [name, values] : found.tensors)
      EXPECT_LE(testing::distance(GetParam(), name, values, expected.tensors.at(name)), 1e-5)
          << name;
  }
  EXPECT_GT(tried, 0);
}

TEST_P(Layouts, RepeatBitForBit) {
  for (const Layout& layout : kLayouts) {
    if (layout.ranks() != world_->size()) continue;
    SCOPED_TRACE(layout.name());
    const LayoutRun once = run(layout), again = run(layout);
    EXPECT_EQ(once.losses, again.losses);
    EXPECT_EQ(once.norms, again.norms);
    EXPECT_EQ(once.tensors, again.tensors);
  }
}

// Parameters arrive only when they are waited for, and are no numbers before: the same bits, so
// every part of a first forward has waited for what it computes with. Small buckets cut it.
TEST_P(Layouts, ComputeWithNothingThatIsOnItsWay) {
  int tried = 0;
  for (const Layout& layout : kLayouts) {
    if (layout.ranks() != world_->size() || layout.replicas == 1 || layout.zero == 0) continue;
    for (const std::int64_t elements : {kTinyBuckets, kSmallBuckets, kOneBucket}) {
      SCOPED_TRACE(layout.name() + ", buckets of " + std::to_string(elements));
      ++tried;
      const auto count = std::make_shared<testing::GatherCount>();
      const LayoutRun prompt = run(layout, buckets(elements));
      const LayoutRun late =
          run(layout, testing::with_late_gathers(buckets(elements), Device::cpu, count));
      EXPECT_EQ(late.losses, prompt.losses);
      EXPECT_EQ(late.norms, prompt.norms);
      EXPECT_EQ(late.evaluation, prompt.evaluation);
      EXPECT_EQ(late.tensors, prompt.tensors);
      EXPECT_EQ(count->pending, 0);
      // The last update's are waited for by the evaluation, at once.
      if (elements == kOneBucket) {
        EXPECT_EQ(count->asked, kSteps);
        EXPECT_EQ(count->waits, kSteps);
      } else {
        // A stage of one piece has one part; the replicas of some other have more.
        double waits = double(count->waits);
        world_->all_reduce(&waits, 1);
        EXPECT_GE(waits, double(world_->size() * kSteps + 2 * (kSteps - 1)));
      }
    }
  }
  EXPECT_TRUE(tried > 0 || world_->size() == 1);
}

// Rounding gradients to bf16 on the wire changes little, and every replica still holds the same.
TEST_P(Layouts, NarrowGradientsStayNear) {
  if (world_->size() == 1) GTEST_SKIP() << "one rank sends nothing";
  const LayoutRun expected = alone();
  for (const std::int64_t zero : {0, 1}) {
    Layout layout{1, world_->size(), 1, kOneF, zero};
    layout.wire = GradientType::bf16;
    const LayoutRun found = run(layout);
    EXPECT_NE(found.losses, expected.losses);
    EXPECT_NEAR(found.losses.back(), expected.losses.back(), 1e-3 * expected.losses.back());
    for (const auto& [name, values] : found.tensors) {
      std::vector<float> first = values;
      world_->broadcast(first.data(), std::int64_t(first.size() * sizeof(float)));
      EXPECT_EQ(first, values) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Layouts,
                         ::testing::Values(testing::small_vanilla(), testing::small_block(4, 2),
                                           testing::projecting(testing::small_block(4, 2))),
                         [](const auto& c) { return testing::name_of(c.param); });

}  // namespace
}  // namespace tessera
