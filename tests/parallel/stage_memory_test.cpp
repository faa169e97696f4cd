// Planned memory of any rank of any layout is what its engine would plan.
#include "parallel/stage_memory.h"

#include <gtest/gtest.h>

#include "parallel/engine.h"
#include "parallel/piece_weights.h"
#include "parallel/rank_engine.h"
#include "parallel/split.h"
#include "support/small_models.h"
#include "tests/parallel/plan_support.h"

namespace tessera::parallel {
namespace {

struct Case {
  std::int64_t stages, replicas, chunks;
  PipelineSchedule schedule;
  std::int64_t zero;
  GradientType wire = GradientType::fp32;
  Recompute recompute = Recompute::none;
};

void expect_same(Config config, Device device, const Case& c) {
  config.parallel.pipeline = c.stages;
  config.parallel.data = c.replicas;
  config.parallel.virtual_stages = c.chunks;
  config.parallel.schedule = c.schedule;
  config.parallel.zero = c.zero;
  config.parallel.gradient_dtype = c.wire;
  config.train.recompute = c.recompute;
  const std::int64_t world = c.stages * c.replicas;
  const StageMemory memory(config, device);
  const auto single = comm::make_single();
  for (std::int64_t stage = 0; stage < c.stages; ++stage) {
    const comm::Topology topology = comm::make_topology(config, stage, world);
    ASSERT_EQ(topology.stage, stage);
    const ScheduleShape shape = schedule_shape(config, topology);
    const auto ranges = split_pieces(piece_weights(config, device), c.stages, c.chunks);
    std::vector<model::PieceRange> mine;
    for (std::int64_t k = 0; k < c.chunks; ++k)
      mine.push_back(ranges[static_cast<std::size_t>(k * c.stages + stage)]);
    const MemoryPlan computed = memory.rank(config, mine, shape, stage, c.replicas);
    MemoryPlan planned;
    make_engine(config, device, topology, *single)->plan(planned);
    for (const MemorySegment& s : planned.segments()) {
      std::int64_t bytes = -1;
      for (const MemorySegment& other : computed.segments())
        if (other.name == s.name) bytes = other.bytes;
      // The optimizer's list of slices is counted without building it.
      const double room = s.name == "constants" ? 1024 + 0.02 * double(s.bytes) : 0;
      EXPECT_NEAR(double(bytes), double(s.bytes), room)
          << s.name << ", stage " << stage << " of " << c.stages << " x " << c.replicas;
    }
    EXPECT_EQ(computed.segments().size(), planned.segments().size());
  }
}

const Case kCases[] = {
    {1, 1, 1, PipelineSchedule::one_f_one_b, 1},
    {1, 1, 1, PipelineSchedule::one_f_one_b, 0, GradientType::fp32, Recompute::layer},
    {2, 1, 1, PipelineSchedule::gpipe, 1},
    {3, 1, 1, PipelineSchedule::one_f_one_b, 1, GradientType::fp32, Recompute::attention_mlp},
    {2, 1, 2, PipelineSchedule::interleaved, 1},
    {4, 1, 1, PipelineSchedule::one_f_one_b, 0}};

Config small(const ModelConfig& model) {
  Config config;
  config.model = model;
  config.precision = Precision::fp32;
  config.train.global_batch = 24;
  config.train.micro_batch = 2;
  return config;
}

TEST(StageMemory, IsWhatEnginesPlanForBlockModels) {
  ModelConfig model = testing::small_block(4, 2);
  model.block_layers = 3;
  model.token_layers = 2;
  for (const Case& c : kCases) expect_same(small(model), Device::cpu, c);
}

TEST(StageMemory, IsWhatEnginesPlanForBlockModelsThatProject) {
  ModelConfig model = testing::projecting(testing::small_block(4, 2));
  model.block_layers = 3;
  model.token_layers = 2;
  for (const Case& c : kCases) expect_same(small(model), Device::cpu, c);
}

TEST(StageMemory, IsWhatEnginesPlanForVanillaModels) {
  ModelConfig model = testing::small_vanilla();
  model.layers = 5;
  for (const Case& c : kCases) expect_same(small(model), Device::cpu, c);
}

TEST(StageMemory, IsWhatEnginesPlanOnCuda) {
  if (!kernels::kHasCuda) GTEST_SKIP() << "this build has no CUDA engine to compare with";
  for (const Case& c : kCases) {
    Config config = testing::gpu_config("paper/block_170m.yaml", {"train.global_batch=24"});
    config.train.micro_batch = 2;
    expect_same(config, Device::cuda, c);
  }
}

std::int64_t bytes_of(const MemoryPlan& plan, const std::string& name) {
  for (const MemorySegment& s : plan.segments())
    if (s.name == name) return s.bytes;
  return 0;
}

TEST(StageMemory, ZeroOneDividesTheOptimizersStateAlone) {
  Config config = testing::gpu_config("paper/block_1400m.yaml");
  const StageMemory memory(config, Device::cuda);
  const std::vector<model::PieceRange> all = {{0, model::piece_count(config.model)}};
  const ScheduleShape shape{PipelineSchedule::one_f_one_b, 1, 1, 4};
  const MemoryPlan alone = memory.rank(config, all, shape, 0, 1);
  const MemoryPlan shared = memory.rank(config, all, shape, 0, 8);
  config.parallel.zero = 0;
  const MemoryPlan whole = memory.rank(config, all, shape, 0, 8);
  for (const char* name : {"master parameters", "adam moments"}) {
    EXPECT_NEAR(double(bytes_of(shared, name)), double(bytes_of(alone, name)) / 8, 4096) << name;
    EXPECT_NEAR(double(bytes_of(whole, name)), double(bytes_of(alone, name)), 4096) << name;
  }
  EXPECT_EQ(bytes_of(shared, "activations"), bytes_of(alone, "activations"));
  // 16 bytes a parameter and 14 for what ZeRO-1 does not share: 2 + 4 + (4 + 8) / replicas.
  const double parameters = double(memory.range(all[0], config.train.micro_batch).flat);
  EXPECT_NEAR(double(bytes_of(alone, "parameters") + bytes_of(alone, "gradients") +
                     bytes_of(alone, "master parameters") + bytes_of(alone, "adam moments")),
              18 * parameters, 1e4);
}

TEST(StageMemory, AScheduleKeepsAsManySlotsAsItSays) {
  const Config config = testing::gpu_config("paper/block_170m.yaml");
  const StageMemory memory(config, Device::cuda);
  const std::vector<model::PieceRange> first = {{0, 8}};
  const auto activations = [&](PipelineSchedule kind, std::int64_t stage) {
    return bytes_of(memory.rank(config, first, {kind, 2, 1, 8}, stage, 1), "activations");
  };
  const std::int64_t slot = memory.range(first[0], config.train.micro_batch).slot;
  EXPECT_EQ(activations(PipelineSchedule::one_f_one_b, 0), 2 * slot);
  EXPECT_EQ(activations(PipelineSchedule::one_f_one_b, 1), slot);
  EXPECT_EQ(activations(PipelineSchedule::gpipe, 0), 8 * slot);
}

}  // namespace
}  // namespace tessera::parallel
