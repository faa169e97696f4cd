// Generation on the GPU: fp32 gives the CPU's tokens at any batch size, bf16 what its own rounding
// allows.
#include <algorithm>

#include <gtest/gtest.h>

#include "core/device_memory.h"
#include "infer/generator.h"
#include "support/small_models.h"

namespace tessera {
namespace {

using infer::GenerateOptions;
using infer::Generator;
using infer::Prompt;
using testing::OwnedStage;
using testing::projecting;

using Texts = std::vector<std::vector<std::int32_t>>;

ModelConfig sized(ModelConfig c, std::int64_t width, std::int64_t heads) {
  c.vocab = 301;
  c.width = width;
  c.heads = heads;
  c.context = 48;
  c.rotary_pct = 0.25;
  return c;
}

class GpuGeneration : public ::testing::TestWithParam<ModelConfig> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
    for (std::int64_t n = 1; n <= 40; n += n < 12 ? 1 : 7)
      prompts_.push_back({testing::random_tokens(n, GetParam().vocab, std::uint64_t(n)), n});
  }
  std::unique_ptr<Generator> generator(std::int64_t sequences, Device device, Precision precision) {
    return Generator::make(GetParam(), model_.stage.table(), model_.parameters.data(),
                           {sequences, 40, 30}, device, precision);
  }
  OwnedStage<float> model_{GetParam(), 1};
  std::vector<Prompt> prompts_;
};

TEST_P(GpuGeneration, Fp32GivesTheCpusTokensAtAnyBatchSize) {
  const auto count = static_cast<std::int64_t>(prompts_.size());
  const auto host = generator(count, Device::cpu, Precision::fp32);
  const auto all = generator(count, Device::cuda, Precision::fp32);
  const auto one = generator(1, Device::cuda, Precision::fp32);
  for (const double temperature : {0.0, 1.0}) {
    GenerateOptions options;
    options.tokens = 30;
    options.sampling.temperature = temperature;
    options.sampling.top_p = temperature > 0 ? 0.95 : 1;
    const Texts expected = host->generate(prompts_, options);
    EXPECT_EQ(all->generate(prompts_, options), expected);
    EXPECT_EQ(all->generate(prompts_, options), expected);  // graphs of the first call
    for (std::size_t n = 0; n < prompts_.size(); n += 5)
      EXPECT_EQ(one->generate({prompts_[n]}, options)[0], expected[n]) << n;
    options.end_id = expected[0][7];
    const Texts ended = host->generate(prompts_, options);
    EXPECT_EQ(all->generate(prompts_, options), ended);
    Texts heard(prompts_.size());
    all->generate(prompts_, options, [&](std::size_t n, std::int32_t token) {
      heard[n].push_back(token);
      return true;
    });
    EXPECT_EQ(heard, ended);
  }
}

// Greedy bf16 tokens lie within rounding of the largest float32 logit of the same context.
TEST_P(GpuGeneration, Bf16ChoosesWithinItsRounding) {
  const auto count = static_cast<std::int64_t>(prompts_.size());
  const auto made = generator(count, Device::cuda, Precision::bf16);
  GenerateOptions options;
  options.tokens = 8;
  const Texts found = made->generate(prompts_, options);
  EXPECT_EQ(made->generate(prompts_, options), found);
  const ModelConfig& config = GetParam();
  const std::int64_t first = model::first_target(config);
  std::int64_t compared = 0, same = 0;
  for (std::size_t n = 0; n < prompts_.size(); ++n) {
    std::vector<std::int32_t> ids = prompts_[n].ids;
    if (static_cast<std::int64_t>(ids.size()) < first) continue;
    ids.insert(ids.end(), found[n].begin(), found[n].end());
    ids.resize(static_cast<std::size_t>(config.context));
    const auto logits = model_.stage.logits(model_.batch(ids));
    for (std::size_t i = 0; i < found[n].size(); ++i) {
      const auto t = static_cast<std::int64_t>(prompts_[n].ids.size() + i);
      if (t >= config.context) break;
      const float* const row = logits.data() + (t - first) * config.vocab;
      const float* const best = std::max_element(row, row + config.vocab);
      const float spread = *best - *std::min_element(row, row + config.vocab);
      EXPECT_GE(row[found[n][i]], *best - 0.05f * spread) << "prompt " << n << ", token " << i;
      ++compared;
      same += best - row == found[n][i];
    }
  }
  EXPECT_GT(compared, 60);
  EXPECT_GT(same, compared * 8 / 10);
}

INSTANTIATE_TEST_SUITE_P(Models, GpuGeneration,
                         ::testing::Values(sized(testing::small_vanilla(), 64, 2),
                                           sized(testing::small_vanilla(), 256, 4),
                                           sized(testing::small_block(4, 2), 128, 2),
                                           sized(testing::small_block(3, 1), 96, 3),
                                           sized(testing::small_block(1, 2), 64, 1),
                                           projecting(sized(testing::small_block(4, 2), 128, 2))),
                         [](const auto& c) {
                           return testing::name_of(c.param) + "_d" +
                                  std::to_string(c.param.width / c.param.heads);
                         });

}  // namespace
}  // namespace tessera
