// Computed costs: the operations are those of the model's own pieces, and the H100's constants
// reproduce what whole steps were measured to take.
#include "parallel/piece_costs.h"

#include <cmath>

#include <gtest/gtest.h>

#include "model/architecture.h"
#include "model/flops.h"
#include "parallel/piece_weights.h"
#include "support/small_models.h"
#include "tests/parallel/plan_support.h"

namespace tessera::parallel {
namespace {

double flops(const Work& work) {
  double sum = 0;
  for (const Product& p : work.products) sum += p.flops();
  return sum;
}

double attention_flops(const Work& work) {
  double sum = 0;
  for (const Attention& a : work.attention)
    sum += 2.0 * double(a.rows) * double(a.length) * double(a.width);
  return sum;
}

class PieceWorkOf : public ::testing::TestWithParam<ModelConfig> {};

TEST_P(PieceWorkOf, FollowsTheModelsPieces) {
  const ModelConfig config = GetParam();
  model::ParameterTable table;
  const auto pieces = model::make_pieces<float>(config, table);
  for (const std::int64_t sequences : {1, 3}) {
    const auto work = piece_work(config, sequences, Recompute::none, Precision::fp32, Device::cpu);
    ASSERT_EQ(work.size(), pieces.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      EXPECT_EQ(work[i].name, pieces[i]->name());
      EXPECT_GT(work[i].forward.bytes, 0);
      EXPECT_GT(work[i].backward.bytes, 0);
      if (i + 1 == pieces.size()) continue;  // the head: below
      const double adds = double(sequences) * pieces[i]->multiply_adds();
      EXPECT_DOUBLE_EQ(flops(work[i].forward) + attention_flops(work[i].forward), 2 * adds)
          << work[i].name;
      EXPECT_DOUBLE_EQ(flops(work[i].backward) + 2 * attention_flops(work[i].backward), 4 * adds)
          << work[i].name;
    }
    // Loss and gradients of the predicted rows alone, all of it in the forward.
    const double rows = double(sequences * model::targets_a_sample(config));
    EXPECT_DOUBLE_EQ(flops(work.back().forward),
                     6 * rows * double(config.width) * double(config.vocab));
    EXPECT_EQ(flops(work.back().backward), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, PieceWorkOf,
                         ::testing::Values(testing::small_vanilla(), testing::small_block(4, 2),
                                           testing::small_block(1, 1), testing::small_block(3, 3),
                                           testing::projecting(testing::small_block(4, 2))));

TEST(PieceWork, RecomputationAddsToTheBackwardAlone) {
  const ModelConfig config = testing::small_block(4, 2);
  const auto of = [&](Recompute recompute) {
    return piece_work(config, 2, recompute, Precision::bf16, Device::cuda)[1];
  };
  const PieceWork none = of(Recompute::none), some = of(Recompute::attention_mlp),
                  layer = of(Recompute::layer);
  EXPECT_EQ(flops(layer.backward), flops(none.backward) + flops(none.forward));
  EXPECT_EQ(flops(some.backward), flops(none.backward));
  EXPECT_GT(some.backward.bytes, none.backward.bytes);
  EXPECT_EQ(layer.backward.bytes, none.backward.bytes + none.forward.bytes);
  for (const PieceWork& w : {some, layer}) {
    EXPECT_EQ(w.forward.bytes, none.forward.bytes);
    EXPECT_EQ(w.backward.attention.size(), 2u);
  }
}

TEST(PieceCosts, ATileMoreThanARoundOfProcessorsCostsAnotherRound) {
  MachineRates rates = h100_machine().rates;
  rates.exposed_traffic = 0;
  rates.launch_seconds = 0;
  const auto time = [&](std::int64_t rows) {
    return seconds(Product{rows, 128, 512, 0}, rates, Precision::bf16);
  };
  EXPECT_DOUBLE_EQ(time(132 * 128), time(128));  // both one round of tiles
  EXPECT_NEAR(time(133 * 128), 2 * time(132 * 128), 1e-12);
  EXPECT_DOUBLE_EQ(time(132 * 128), 2.0 * 132 * 128 * 128 * 512 / rates.matmul_bf16);
  // A deep product of one tile is cut along its depth.
  const double deep = seconds(Product{128, 128, 132 * 1024, 0}, rates, Precision::bf16);
  EXPECT_LT(deep, 2 * 2.0 * 128 * 128 * 132 * 1024 / rates.matmul_bf16);
}

struct Measured {
  const char* config;
  double tokens_per_second;
};
// docs/performance.md, "Whole optimizer steps", one H100.
constexpr Measured kMeasured[] = {{"vanilla_70m", 1357e3}, {"vanilla_160m", 519e3},
                                  {"vanilla_410m", 193e3}, {"block_170m", 770e3},
                                  {"block_420m", 302e3},   {"block_1400m", 93.2e3}};

TEST(PieceCosts, ReproducesTheMeasuredStepsOfOneH100) {
  for (const Measured& m : kMeasured) {
    const Config config = testing::gpu_config("bench/" + std::string(m.config) + ".yaml");
    const Prediction p = testing::predict(config, 1);
    const double error = p.tokens_per_second / m.tokens_per_second - 1;
    RecordProperty(m.config, std::to_string(100 * error));
    EXPECT_LT(std::abs(error), 0.1) << m.config << ": " << p.tokens_per_second;
    EXPECT_TRUE(p.fits);
    EXPECT_NEAR(p.mfu * 989e12, p.tokens_per_second * model::training_flops_per_token(config.model),
                1e6);
  }
}

// docs/scaling.md, "Two H200s, measured", the first pair.
constexpr Measured kMeasuredH200[] = {{"vanilla_70m", 1379e3}, {"vanilla_160m", 533e3},
                                      {"vanilla_410m", 194e3}, {"block_170m", 802e3},
                                      {"block_420m", 312e3},   {"block_1400m", 94.4e3}};

TEST(PieceCosts, ReproducesTheMeasuredStepsOfOneH200) {
  const Machine h200 = machine_of("NVIDIA H200", 8);
  EXPECT_EQ(h200.rates.name, h200_machine().rates.name);
  EXPECT_EQ(machine_of("NVIDIA H100 80GB HBM3", 8).rates.name, h100_machine().rates.name);
  for (const Measured& m : kMeasuredH200) {
    const Config config = testing::gpu_config("bench/" + std::string(m.config) + ".yaml");
    const Prediction p = testing::predict(config, 1, h200);
    EXPECT_LT(std::abs(p.tokens_per_second / m.tokens_per_second - 1), 0.05) << m.config;
  }
}

TEST(PieceCosts, PartsOfTheVanilla160mStepAreNearWhatWasTimed) {
  // docs/performance.md, "Where the time goes": layers 199 ms, head 54.8 ms, the rest 2.7 ms.
  const Config config = testing::gpu_config("bench/vanilla_160m.yaml");
  const PieceCosts costs(config, Device::cuda, h100_machine().rates);
  double layers = 0;
  const auto& pieces = costs.micro_batch(64);
  for (std::size_t i = 1; i + 1 < pieces.size(); ++i)
    layers += pieces[i].forward + pieces[i].backward;
  EXPECT_NEAR(layers, 0.199, 0.1 * 0.199);
  EXPECT_NEAR(pieces.back().forward + pieces.back().backward, 0.0548, 0.1 * 0.0548);
  const OptimizerCost o = costs.optimizer(162'322'944, 162'322'944);
  EXPECT_NEAR(o.clear + o.norms + o.update + pieces[0].forward + pieces[0].backward, 0.0027,
              0.2 * 0.0027);
}

TEST(PieceCosts, GrowWithTheMicroBatchAndShrinkWithSpeed) {
  const Config config = testing::gpu_config("bench/block_170m.yaml");
  MachineRates faster = h100_machine().rates;
  faster.matmul_bf16 *= 2;
  faster.memory_bandwidth *= 2;
  const PieceCosts costs(config, Device::cuda, h100_machine().rates);
  const PieceCosts quick(config, Device::cuda, faster);
  for (const std::int64_t n : {1, 2, 5, 16})
    for (std::size_t i = 0; i < costs.micro_batch(n).size(); ++i) {
      const PieceCost& a = costs.micro_batch(n)[i];
      const PieceCost& twice = costs.micro_batch(2 * n)[i];
      EXPECT_GT(twice.forward, a.forward) << a.name;
      EXPECT_LE(twice.forward, 2.01 * a.forward) << a.name;  // rounds of tiles
      EXPECT_GT(twice.backward, a.backward) << a.name;
      EXPECT_LT(quick.micro_batch(n)[i].forward, a.forward) << a.name;
    }
}

TEST(PieceWeights, AreThePositiveCostsOfThePieces) {
  const Config config = testing::gpu_config("paper/block_1400m.yaml");
  const std::vector<double> weights = piece_weights(config, Device::cuda);
  ASSERT_EQ(std::int64_t(weights.size()), model::piece_count(config.model));
  const PieceCosts costs(config, Device::cuda, h100_machine().rates);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const PieceCost& c = costs.micro_batch(config.train.micro_batch)[i];
    EXPECT_EQ(weights[i], c.forward + c.backward);
    EXPECT_GT(weights[i], 0);
  }
}

}  // namespace
}  // namespace tessera::parallel
