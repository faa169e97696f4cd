// Whole models on the device: the same step as the CPU's, the same bits twice, with and without
// graphs, with and without recomputation; gradients that are slopes of the loss.
#include <cmath>

#include <gtest/gtest.h>

#include "core/device_memory.h"
#include "support/owned_engine.h"
#include "support/small_models.h"

namespace tessera::testing {
namespace {

constexpr std::int64_t kGlobalBatch = 4;

Config config_of(ModelConfig model) {
  Config config;
  config.model = model;
  config.train.global_batch = kGlobalBatch;
  config.train.micro_batch = 2;
  config.optimizer.lr = 1e-2;
  return config;
}

// Head size 16; windows of 96 positions go the long way, shorter ones the tiny one.
ModelConfig vanilla() {
  ModelConfig c = small_vanilla();
  c.width = 48, c.vocab = 101, c.context = 96;
  return c;
}
ModelConfig block(std::int64_t block_length, std::int64_t prefix, std::int64_t context) {
  ModelConfig c = small_block(block_length, prefix);
  c.width = 48, c.vocab = 101, c.context = context;
  return c;
}

class EngineGpu : public ::testing::TestWithParam<ModelConfig> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  }
  Config config_ = config_of(GetParam());
  std::vector<std::int32_t> ids(std::uint64_t seed) const {
    return random_tokens(kGlobalBatch * config_.model.context, config_.model.vocab, seed);
  }
};

double relative(const std::vector<float>& a, const std::vector<float>& b, std::int64_t begin,
                std::int64_t end) {
  double difference = 0, norm = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const auto at = static_cast<std::size_t>(i);
    difference += std::pow(double(a[at]) - double(b[at]), 2);
    norm += std::pow(double(b[at]), 2);
  }
  return std::sqrt(difference) / (std::sqrt(norm) + 1e-12);
}

TEST_P(EngineGpu, Fp32StepsEqualTheCpus) {
  OwnedEngine<float> cpu(config_, Device::cpu), gpu(config_, Device::cuda);
  cpu.engine.initialise(3);
  gpu.engine.initialise(3);
  gpu.engine.tune();
  for (std::int64_t n = 1; n <= 4; ++n) {
    const auto a = cpu.accumulate(config_, ids(n)), b = gpu.accumulate(config_, ids(n));
    EXPECT_NEAR(b.loss_sum, a.loss_sum, 1e-5 * a.loss_sum) << "step " << n;
    EXPECT_NEAR(b.gradient_norm, a.gradient_norm, 1e-5 * a.gradient_norm) << "step " << n;
    const auto expected = cpu.engine.gradients(), found = gpu.engine.gradients();
    for (const model::Parameter& p : cpu.engine.table().parameters()) {
      if (!p.matrix()) continue;
      EXPECT_LE(relative(found, expected, p.offset, p.offset + p.count),
                // Later gradients also differ by what Adam made of the first rounding.
                n == 1 ? 2e-5 : 1e-3)
          << p.name << " at step " << n;
    }
    cpu.engine.update(n, 1e-3, 1);
    gpu.engine.update(n, 1e-3, 1);
  }
}

TEST_P(EngineGpu, Bf16LossStaysNearFp32) {
  OwnedEngine<float> wide(config_, Device::cuda);
  OwnedEngine<kernels::bf16> narrow(config_, Device::cuda);
  wide.engine.initialise(3);
  narrow.engine.initialise(3);
  for (std::int64_t n = 1; n <= 10; ++n) {
    const auto a = wide.step(config_, ids(n), n, 1e-3);
    const auto b = narrow.step(config_, ids(n), n, 1e-3);
    EXPECT_TRUE(b.finite);
    EXPECT_NEAR(b.loss_sum, a.loss_sum, 5e-3 * a.loss_sum) << "step " << n;
  }
}

// Losses and final parameters of 50 steps.
// `recorded`: the choices of an earlier run, which are kept to; filled by the first.
template <typename T>
std::pair<std::vector<double>, std::vector<float>> train(const Config& config,
                                                         const parallel::EngineOptions& options,
                                                         std::string& recorded) {
  OwnedEngine<T> model(config, Device::cuda, options);
  model.engine.initialise(3);
  model.engine.use_algorithms(recorded, "test");
  model.engine.tune();
  if (recorded.empty()) recorded = model.engine.algorithms();
  EXPECT_EQ(model.engine.algorithms(), recorded);
  std::pair<std::vector<double>, std::vector<float>> result;
  for (std::int64_t n = 1; n <= 50; ++n)
    result.first.push_back(
        model
            .step(config,
                  random_tokens(kGlobalBatch * config.model.context, config.model.vocab,
                                static_cast<std::uint64_t>(n)),
                  n, 3e-3)
            .loss_sum);
  result.second = model.engine.parameters();
  return result;
}

TEST_P(EngineGpu, FiftyStepsRepeatBitForBitWithAndWithoutGraphs) {
  std::string narrow, wide;
  const auto once = train<kernels::bf16>(config_, {true}, narrow);
  EXPECT_EQ(train<kernels::bf16>(config_, {true}, narrow), once);
  EXPECT_EQ(train<kernels::bf16>(config_, {false}, narrow), once);
  EXPECT_EQ(train<float>(config_, {true}, wide), train<float>(config_, {false}, wide));
}

TEST_P(EngineGpu, RecomputationChangesNoBit) {
  std::string recorded;
  const auto kept = train<kernels::bf16>(config_, {}, recorded);
  for (const Recompute recompute : {Recompute::attention_mlp, Recompute::layer}) {
    Config again = config_;
    again.train.recompute = recompute;
    EXPECT_EQ(train<kernels::bf16>(again, {}, recorded), kept);
  }
}

TEST_P(EngineGpu, Learns) {
  OwnedEngine<kernels::bf16> model(config_, Device::cuda);
  model.engine.initialise(3);
  const auto batch = ids(1);
  double first = 0, last = 0;
  for (std::int64_t n = 1; n <= 40; ++n) {
    last = model.step(config_, batch, n, 3e-3).loss_sum;
    if (n == 1) first = last;
  }
  EXPECT_LT(last, 0.8 * first);
}

TEST_P(EngineGpu, GradientsAreSlopesOfTheLoss) {
  OwnedEngine<float> model(config_, Device::cuda);
  model.engine.initialise(3);
  const auto batch = ids(1);
  const double targets = static_cast<double>(kGlobalBatch * model::targets_a_sample(config_.model));
  model.accumulate(config_, batch);
  const std::vector<float> gradients = model.engine.gradients();
  const std::vector<float> start = model.engine.parameters();
  // Along each tensor's own gradient the loss rises by its norm.
  for (const model::Parameter& p : model.engine.table().parameters()) {
    double norm = 0;
    for (std::int64_t i = p.offset; i < p.offset + p.count; ++i)
      norm += std::pow(double(gradients[static_cast<std::size_t>(i)]), 2);
    norm = std::sqrt(norm);
    if (norm < 1e-2) continue;  // lost in the loss's own rounding
    const auto loss_at = [&](double step) {
      std::vector<float> moved(start.begin() + p.offset, start.begin() + p.offset + p.count);
      for (std::int64_t i = 0; i < p.count; ++i)
        moved[static_cast<std::size_t>(i)] += static_cast<float>(
            step * double(gradients[static_cast<std::size_t>(p.offset + i)]) / norm);
      model.engine.restore(parallel::State::parameter, p.offset, p.count, moved.data());
      model.engine.finish_restore();
      return model.accumulate(config_, batch).loss_sum / targets;
    };
    const auto slope = [&](double step) { return (loss_at(step) - loss_at(-step)) / (2 * step); };
    // Without the third-order term of central differences; what is left: rounding of losses near
    // 4.6, and the fifth order.
    const double measured = (4 * slope(1e-2) - slope(2e-2)) / 3;
    model.engine.restore(parallel::State::parameter, p.offset, p.count, start.data() + p.offset);
    model.engine.finish_restore();
    EXPECT_NEAR(measured, norm, 0.01 * norm + 3e-4) << p.name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, EngineGpu,
    ::testing::Values(vanilla(), block(4, 2, 48), block(4, 2, 416), block(8, 3, 64),
                      block(1, 2, 24), projecting(block(4, 2, 48)), projecting(block(5, 1, 60))),
    [](const auto& c) { return name_of(c.param) + "_" + std::to_string(c.param.context); });

}  // namespace
}  // namespace tessera::testing
