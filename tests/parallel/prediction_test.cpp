// Predicted steps: sums that must hold, what more of something must do, and hand-checked layouts.
#include "parallel/prediction.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/parallel/plan_support.h"

namespace tessera::parallel {
namespace {

using testing::gpu_config;
using testing::predict;

Config layout(Config config, std::int64_t stages, std::int64_t micro_batch,
              PipelineSchedule schedule = PipelineSchedule::one_f_one_b, std::int64_t chunks = 1) {
  config.parallel.pipeline = stages;
  config.parallel.schedule = schedule;
  config.parallel.virtual_stages = chunks;
  config.train.micro_batch = micro_batch;
  return config;
}

double traffic(const Prediction& p, const std::string& what, std::int64_t stage) {
  for (const LinkTraffic& l : p.links)
    if (l.what == what && l.stage == stage) return l.bytes;
  return 0;
}

TEST(Prediction, OneRankIsTheSumOfItsPieces) {
  const Config config = gpu_config("bench/block_170m.yaml", {"train.global_batch=96"});
  const Prediction p = predict(config, 1);
  double a_micro_batch = 0;
  for (const PieceCost& c : PieceCosts(config, Device::cuda, h100_machine().rates).micro_batch(32))
    a_micro_batch += c.forward + c.backward;
  EXPECT_EQ(p.shape.micro_batches, 3);
  EXPECT_NEAR(p.parts.computing, 3 * a_micro_batch, 1e-9);
  EXPECT_NEAR(p.parts.waiting, 0, 1e-9);
  EXPECT_EQ(p.parts.reduction, 0);
  EXPECT_EQ(p.parts.gather, 0);
  EXPECT_NEAR(p.bubble, 0, 1e-12);
  EXPECT_TRUE(p.links.empty());
  EXPECT_DOUBLE_EQ(p.step_seconds, p.parts.total());
  EXPECT_NEAR(p.tokens_per_second, 96 * 2048 / p.step_seconds, 1e-6);
}

TEST(Prediction, StagesHoldTheModelOnce) {
  for (const char* file : {"paper/block_420m.yaml", "paper/vanilla_410m.yaml"}) {
    const Config config = gpu_config(file);
    const std::int64_t whole = predict(layout(config, 1, 8), 1).stages[0].parameters;
    for (const std::int64_t stages : {2, 4, 8}) {
      const Prediction p = predict(layout(config, stages, 1), stages);
      ASSERT_EQ(std::int64_t(p.stages.size()), stages);
      std::int64_t parameters = 0, next = 0;
      for (const StagePrediction& s : p.stages) {
        ASSERT_EQ(s.ranges.size(), 1u);
        EXPECT_EQ(s.ranges[0].begin, next);
        next = s.ranges[0].end;
        parameters += s.parameters;
        EXPECT_LE(s.computed, s.reduced);
      }
      EXPECT_EQ(next, model::piece_count(config.model));
      EXPECT_EQ(parameters, whole);
      EXPECT_GE(p.bubble, p.ideal_bubble - 1e-9) << file;
      EXPECT_DOUBLE_EQ(p.step_seconds, p.parts.total());
    }
  }
}

TEST(Prediction, MoreMicroBatchesShrinkTheBubble) {
  const Config config = gpu_config("paper/block_420m.yaml");
  double before = 1;
  for (const std::int64_t batch : {8, 16, 64, 256}) {
    Config c = layout(config, 4, 2);
    c.train.global_batch = batch;
    const Prediction p = predict(c, 4);
    EXPECT_LT(p.bubble, before);
    before = p.bubble;
  }
}

TEST(Prediction, BlockModelsSendAQuarterBehindTheBlockDecoder) {
  // A boundary in the block decoder has a row a block; in the token decoder P + L_B - 1 rows a
  // block but the first.
  const Config config = layout(gpu_config("paper/block_420m.yaml"), 2, 8);
  const Prediction p = predict(config, 2);
  const std::int64_t cut = p.stages[0].ranges[0].end;
  const double rows = cut <= 1 + 12 + 1 ? 512 : 511 * 5;
  EXPECT_DOUBLE_EQ(traffic(p, "activations", 0), 32.0 * 8 * rows * 1024 * 2);
  EXPECT_DOUBLE_EQ(traffic(p, "gradients back", 1), traffic(p, "activations", 0));
  EXPECT_EQ(traffic(p, "gradient sums", 0), 0);
}

TEST(Prediction, InterleavedStagesSendRoundTheRing) {
  const Config config =
      layout(gpu_config("paper/vanilla_410m.yaml"), 4, 1, PipelineSchedule::interleaved, 2);
  const Prediction p = predict(config, 4);
  const double boundary = 256.0 * 2048 * 1024 * 2;
  EXPECT_DOUBLE_EQ(traffic(p, "activations", 0), 2 * boundary);
  EXPECT_DOUBLE_EQ(traffic(p, "activations", 3), boundary);
  EXPECT_DOUBLE_EQ(traffic(p, "gradients back", 0), boundary);
  for (const LinkTraffic& l : p.links)
    if (l.what == "activations") {
      EXPECT_EQ(l.to_stage, (l.stage + 1) % 4);
    }
}

TEST(Prediction, DataParallelTrafficIsTheRings) {
  Config config = layout(gpu_config("paper/block_170m.yaml"), 1, 8);
  const Prediction sharded = predict(config, 8);
  const double elements = double(sharded.stages[0].parameters);
  EXPECT_NEAR(traffic(sharded, "gradient sums", 0), 4 * elements * 7 / 8, 4096);
  EXPECT_NEAR(traffic(sharded, "parameters", 0), 2 * elements * 7 / 8, 4096);
  config.parallel.gradient_dtype = GradientType::bf16;
  EXPECT_NEAR(traffic(predict(config, 8), "gradient sums", 0), 2 * elements * 7 / 8, 4096);
  config.parallel.gradient_dtype = GradientType::fp32;
  config.parallel.zero = 0;
  const Prediction whole = predict(config, 8);
  EXPECT_NEAR(traffic(whole, "gradient sums", 0), 2 * 4 * elements * 7 / 8, 8192);
  EXPECT_EQ(traffic(whole, "parameters", 0), 0);
  EXPECT_EQ(whole.parts.gather, 0);
  EXPECT_GT(whole.parts.update, 7 * sharded.parts.update);
}

TEST(Prediction, ScalingNeverBeatsTheIdealAndGrowsWithRanks) {
  Config config = layout(gpu_config("paper/block_170m.yaml"), 1, 8);
  config.train.global_batch = 4096;
  const double alone = predict(config, 1).tokens_per_second;
  // Rings of hundreds take long by their steps alone; without these more ranks are always faster.
  Machine prompt = h100_machine();
  prompt.inside.latency = prompt.between.latency = prompt.collective_start = 0;
  double before = 0;
  for (const std::int64_t ranks : {1, 2, 8, 16, 64, 256, 512}) {
    const Prediction p = predict(config, ranks);
    // ZeRO-1 shares the optimizer's work, so only what computes must not speed up.
    EXPECT_LE(p.tokens_per_second, 1.02 * alone * double(ranks)) << ranks;
    EXPECT_NEAR(p.parts.computing * double(ranks), 512 * predict(config, 512).parts.computing,
                1e-6);
    const double quick = predict(config, ranks, prompt).tokens_per_second;
    EXPECT_GE(quick, p.tokens_per_second) << ranks;
    EXPECT_GT(quick, before) << ranks;
    before = quick;
  }
}

TEST(Prediction, FasterLinksNeverSlowAStep) {
  for (const RankOrder order : {RankOrder::pipeline_first, RankOrder::data_first})
    for (const std::int64_t stages : {1, 2, 4}) {
      Config config = layout(gpu_config("paper/block_420m.yaml"), stages, 2);
      config.parallel.order = order;
      double before = 1e9;
      for (const double speed : {0.01, 0.1, 1.0, 10.0, 1000.0}) {
        Machine machine = h100_machine();
        for (LinkRates* link : {&machine.inside, &machine.between}) {
          link->bandwidth *= speed;
          link->latency /= speed;
        }
        const Prediction p = predict(config, 32, machine);
        EXPECT_LE(p.step_seconds, before + 1e-12) << speed;
        before = p.step_seconds;
      }
    }
}

TEST(Prediction, ReductionHidesBehindBackwardOnFastLinks) {
  const Config config = layout(gpu_config("paper/block_1400m.yaml"), 1, 16);
  const Prediction p = predict(config, 8);
  double in_all = 0;
  for (const LinkTraffic& l : p.links)
    if (l.what == "gradient sums") in_all += l.seconds;
  EXPECT_GT(p.parts.reduction, 0);  // the last bucket has nothing to hide behind
  EXPECT_LT(p.parts.reduction, 0.5 * in_all);
  // One without a backward to hide behind: links so slow that they take all the time.
  Machine slow = h100_machine();
  slow.inside.bandwidth /= 1e4;
  const Prediction q = predict(config, 8, slow);
  double slow_sums = 0;
  for (const LinkTraffic& l : q.links)
    if (l.what == "gradient sums") slow_sums += l.seconds;
  EXPECT_GT(q.parts.reduction, 0.99 * slow_sums - q.stages[0].backward);
  EXPECT_EQ(first_bottleneck(q), "gradient sums that backward does not hide");
}

double seconds_of(const Prediction& p, const std::string& what) {
  double sum = 0;
  for (const LinkTraffic& l : p.links)
    if (l.what == what) sum += l.seconds;
  return sum;
}

TEST(Prediction, GatheringHidesBehindTheFirstForward) {
  const Config config = layout(gpu_config("paper/block_1400m.yaml"), 1, 8);
  // Inside a node a bucket is there long before its piece's turn.
  const Prediction near = predict(config, 8);
  EXPECT_GT(seconds_of(near, "parameters"), 5e-3);
  EXPECT_EQ(near.parts.gather, 0);
  // Between nodes the block decoder, few rows and half of the parameters, waits for some.
  const Prediction far = predict(config, 64);
  EXPECT_GT(far.parts.gather, 0);
  EXPECT_LT(far.parts.gather, 0.3 * seconds_of(far, "parameters"));
  EXPECT_DOUBLE_EQ(far.step_seconds, far.parts.total());
  // Links that take all the time: whatever can hide them does, and no more.
  Machine slow = h100_machine();
  slow.inside.bandwidth /= 1e3;
  const Prediction hopeless = predict(config, 8, slow);
  const double gathering = seconds_of(hopeless, "parameters");
  EXPECT_LT(hopeless.parts.gather, gathering - hopeless.parts.clear);
  EXPECT_GT(hopeless.parts.gather,
            gathering - hopeless.parts.clear - hopeless.parts.update - hopeless.stages[0].forward);
}

// One bucket is gathered behind all of AdamW and needed by the first piece: only clearing hides it.
// Smaller buckets hide more, those of the default all.
TEST(Prediction, GatheringInOneBucketHidesBehindClearingAlone) {
  Config config = layout(gpu_config("paper/block_420m.yaml"), 1, 8);
  config.parallel.bucket_mib = 4096;
  const Prediction p = predict(config, 16);
  const double gathering = seconds_of(p, "parameters");
  EXPECT_NEAR(p.parts.gather, gathering - p.parts.clear, 1e-12);
  double before = p.parts.gather;
  for (const std::int64_t mib : {1024, 512, 128}) {
    config.parallel.bucket_mib = mib;
    const Prediction q = predict(config, 16);
    EXPECT_LT(q.parts.gather, before) << mib;
    before = q.parts.gather;
  }
  EXPECT_EQ(before, 0);
}

// Only the first micro-batch waits, however many follow; in a pipeline a later stage's parameters
// come while it waits for its first activation.
TEST(Prediction, OnlyFirstForwardsWaitForParameters) {
  Machine machine = h100_machine();
  machine.inside.bandwidth /= 20;
  machine.between.bandwidth /= 20;
  Config config = layout(gpu_config("paper/block_420m.yaml"), 1, 2);
  config.train.global_batch = 32;
  const double once = predict(config, 16, machine).parts.gather;
  EXPECT_GT(once, 1e-3);
  config.train.global_batch = 256;
  EXPECT_NEAR(predict(config, 16, machine).parts.gather, once, 1e-9);

  config = layout(gpu_config("paper/block_420m.yaml"), 4, 2);
  const Prediction p = predict(config, 16, machine);
  double longest = 0;
  for (std::size_t i = 0; i < p.stages.size(); ++i) {
    const StagePrediction& s = p.stages[i];
    for (const Span& span : p.timeline.ranks[i]) {
      if (span.instruction.action != Action::forward) continue;
      const double wait = span.end - span.start - s.forward;
      if (span.instruction.micro_batch == 0)
        longest = std::max(longest, wait);
      else
        EXPECT_NEAR(wait, 0, 1e-9);
    }
  }
  EXPECT_GT(longest, 1e-3);
  EXPECT_GT(p.parts.gather, 0);
  EXPECT_LT(p.parts.gather, seconds_of(p, "parameters"));
  EXPECT_DOUBLE_EQ(p.step_seconds, p.parts.total());
  // The pipeline's own idle time is not the parameters'.
  Config replicated = config;
  replicated.parallel.zero = 0;
  EXPECT_DOUBLE_EQ(p.bubble, predict(replicated, 16, machine).bubble);
}

TEST(Prediction, OrderDecidesWhoCrossesNodes) {
  Config config = layout(gpu_config("paper/block_420m.yaml"), 8, 1);
  const auto crosses = [](const Prediction& p, const std::string& what) {
    for (const LinkTraffic& l : p.links)
      if (l.what == what && l.between_nodes) return true;
    return false;
  };
  const Prediction pipeline = predict(config, 64);
  EXPECT_FALSE(crosses(pipeline, "activations"));
  EXPECT_TRUE(crosses(pipeline, "gradient sums"));
  config.parallel.order = RankOrder::data_first;
  const Prediction data = predict(config, 64);
  EXPECT_TRUE(crosses(data, "activations"));
  EXPECT_FALSE(crosses(data, "gradient sums"));
}

TEST(Prediction, BoundsAreBelowAndSayWhatFits) {
  const Config config = gpu_config("paper/block_1400m.yaml");
  const Predictor predictor(config, Device::cuda, h100_machine());
  for (const std::int64_t stages : {1, 2, 4, 8})
    for (const std::int64_t micro : {1, 4, 16, 64})
      for (const auto schedule : {PipelineSchedule::gpipe, PipelineSchedule::one_f_one_b,
                                  PipelineSchedule::eager_one_f_one_b}) {
        const Config c = layout(config, stages, micro, schedule);
        const Prediction p = predictor.predict(c, 8);
        const Predictor::Bound b = predictor.bound(c, 8);
        EXPECT_LE(b.seconds, p.step_seconds);
        EXPECT_EQ(b.fits, p.fits);
        EXPECT_EQ(p.fits, p.memory_bytes <= h100_machine().rates.memory_bytes);
      }
}

TEST(Prediction, SizesThatCannotRunAreRefused) {
  const auto refused = [](const Config& config, std::int64_t ranks, const std::string& key) {
    try {
      predict(config, ranks);
      ADD_FAILURE() << key;
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), Category::config);
      EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
    }
  };
  const Config config = gpu_config("paper/block_170m.yaml");
  refused(layout(config, 3, 8), 8, "parallel.pipeline");
  refused(layout(config, 17, 1), 17, "parallel.pipeline");
  refused(layout(config, 1, 8), 512, "train.global_batch");
  refused(layout(config, 4, 8, PipelineSchedule::interleaved, 5), 4, "parallel.virtual_stages");
}

}  // namespace
}  // namespace tessera::parallel
