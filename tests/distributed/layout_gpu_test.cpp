// Layouts of ranks on GPUs train the model that the CPU trains. Runs wherever it is started: with a
// GPU a rank through NCCL, with more ranks than GPUs through host memory.
#include <gtest/gtest.h>
#include <mpi.h>

#include "comm/mpi_communicator.h"
#include "core/device_memory.h"
#include "distributed/layouts.h"
#include "support/late_transport.h"

namespace tessera {
namespace {

using testing::kEager, testing::kGpipe, testing::kInterleaved, testing::kOneF;
using testing::Layout;
using testing::LayoutRun;

constexpr std::int64_t kBatch = 8;
constexpr int kSteps = 12;

const std::vector<Layout> kLayouts = {
    {1, 1, 1, kOneF, 1},    {1, 2, 1, kOneF, 0},        {1, 2, 1, kOneF, 1, 2},
    {1, 2, 1, kOneF, 1, 4}, {2, 1, 1, kGpipe, 1},       {2, 1, 1, kOneF, 0, 2},
    {2, 1, 1, kEager, 1},   {2, 1, 2, kInterleaved, 1}, {1, 4, 1, kOneF, 1},
    {2, 2, 1, kOneF, 1},    {2, 2, 2, kInterleaved, 1}, {4, 1, 1, kOneF, 1},
};

// Head size 32, enough pieces for four stages.
ModelConfig larger(ModelConfig c) {
  c.vocab = 101;
  c.width = 64;
  c.heads = 2;
  c.context = 48;
  c.rotary_pct = 0.25;
  c.layers = 4;
  c.block_layers = c.token_layers = 2;
  return c;
}

class GpuLayouts : public ::testing::TestWithParam<ModelConfig> {
 protected:
  void SetUp() override {
    const int gpus = cuda_device_count();
    if (gpus == 0) GTEST_SKIP() << "no CUDA device";
    use_gpu(world_->rank() % gpus);
    options_.staged = world_->size() > gpus;
    options_.bucket_elements = 20000;
  }
  LayoutRun run(const Layout& layout, Precision precision, bool graphs = true) {
    Config config = testing::layout_config(GetParam(), layout, kBatch);
    config.precision = precision;
    parallel::EngineOptions options = options_;
    options.graphs = graphs;
    if (world_->rank() == 0)  // a hang shows where
      std::cout << layout.name() << (graphs ? "" : " eager") << std::endl;
    return testing::run_layout(config, Device::cuda, *world_, kSteps, options);
  }
  LayoutRun alone(Device device, Precision precision) {
    const auto single = comm::make_single();
    Config config = testing::layout_config(GetParam(), {}, kBatch);
    config.precision = precision;
    return testing::run_layout(config, device, *single, kSteps, {});
  }
  std::unique_ptr<comm::Communicator> world_ = comm::make_mpi(MPI_COMM_WORLD);
  parallel::EngineOptions options_;
};

TEST_P(GpuLayouts, Fp32EqualsTheCpu) {
  const LayoutRun expected = alone(Device::cpu, Precision::fp32);
  int tried = 0;
  for (const Layout& layout : kLayouts) {
    if (layout.ranks() != world_->size()) continue;
    SCOPED_TRACE(layout.name());
    ++tried;
    const LayoutRun found = run(layout, Precision::fp32);
    for (std::size_t i = 0; i < expected.losses.size(); ++i) {
      EXPECT_NEAR(found.losses[i], expected.losses[i], 2e-6 * expected.losses[i]) << "step " << i;
      EXPECT_NEAR(found.norms[i], expected.norms[i], 2e-5 * expected.norms[i]) << "step " << i;
    }
    EXPECT_NEAR(found.evaluation, expected.evaluation, 2e-6 * expected.evaluation);
    for (const auto& [name, values] : found.tensors)
      EXPECT_LE(testing::distance(GetParam(), name, values, expected.tensors.at(name)), 1e-4)
          << name;
  }
  EXPECT_GT(tried, 0);
}

TEST_P(GpuLayouts, Bf16StaysNearOneGpuAndRepeatsBitForBitWithAndWithoutGraphs) {
  const LayoutRun expected = alone(Device::cuda, Precision::bf16);
  for (const Layout& layout : kLayouts) {
    if (layout.ranks() != world_->size()) continue;
    SCOPED_TRACE(layout.name());
    const LayoutRun found = run(layout, Precision::bf16), again = run(layout, Precision::bf16);
    const LayoutRun eager = run(layout, Precision::bf16, false);
    EXPECT_EQ(found.losses, again.losses);
    EXPECT_EQ(found.tensors, again.tensors);
    EXPECT_EQ(found.losses, eager.losses);
    EXPECT_EQ(found.tensors, eager.tensors);
    for (std::size_t i = 0; i < expected.losses.size(); ++i)
      EXPECT_NEAR(found.losses[i], expected.losses[i], 2e-3 * expected.losses[i]) << "step " << i;
  }
}

// Parameters arrive only when they are waited for, and are no numbers before (layout_test has the
// same on the CPU): the same bits in both types, with graphs and without.
TEST_P(GpuLayouts, ComputeWithNothingThatIsOnItsWay) {
  for (const Layout& layout : kLayouts) {
    if (layout.ranks() != world_->size() || layout.replicas == 1 || layout.zero == 0) continue;
    for (const Precision precision : {Precision::fp32, Precision::bf16})
      for (const bool graphs : {true, false}) {
        SCOPED_TRACE(layout.name());
        const auto count = std::make_shared<testing::GatherCount>();
        const parallel::EngineOptions as_ever = options_;
        const LayoutRun prompt = run(layout, precision, graphs);
        options_ = testing::with_late_gathers(as_ever, Device::cuda, count);
        const LayoutRun late = run(layout, precision, graphs);
        options_ = as_ever;
        EXPECT_EQ(late.losses, prompt.losses);
        EXPECT_EQ(late.norms, prompt.norms);
        EXPECT_EQ(late.evaluation, prompt.evaluation);
        EXPECT_EQ(late.tensors, prompt.tensors);
        EXPECT_EQ(count->pending, 0);
        double waits = double(count->waits);  // forwards in several parts, of some stage
        world_->all_reduce(&waits, 1);
        EXPECT_GE(waits, double(world_->size() * kSteps + 2 * (kSteps - 1)));
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GpuLayouts,
                         ::testing::Values(larger(testing::small_vanilla()),
                                           larger(testing::small_block(4, 2)),
                                           larger(testing::projecting(testing::small_block(4, 2)))),
                         [](const auto& c) { return testing::name_of(c.param); });

}  // namespace
}  // namespace tessera
