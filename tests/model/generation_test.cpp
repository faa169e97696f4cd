// Cached generation equals the full teacher-forced forward, token by token.
#include <algorithm>

#include <gtest/gtest.h>

#include "infer/generator.h"
#include "support/small_models.h"

namespace tessera {
namespace {

using testing::OwnedStage;
using testing::random_tokens;
using testing::small_block;
using testing::small_vanilla;

class Generation : public ::testing::TestWithParam<ModelConfig> {};

// Greedy text from prompts of every length is what arg max over the full forward's logits says.
TEST_P(Generation, EqualsTheFullForward) {
  ModelConfig config = GetParam();
  config.context = 24;
  OwnedStage<float> model(config, 1);
  const std::int64_t first = model::first_target(config);
  const auto generator =
      infer::Generator::make(config, model.stage.table(), model.parameters.data(), config.context);
  for (std::int64_t length = first; length < config.context; ++length) {
    const auto prompt = random_tokens(length, config.vocab, static_cast<std::uint64_t>(length));
    infer::Sampler greedy({}, {});
    infer::GenerateOptions options;
    options.tokens = config.context - length;
    const auto tokens = generator->generate(prompt, options, greedy, 0);
    ASSERT_EQ(static_cast<std::int64_t>(tokens.size()), options.tokens);

    std::vector<std::int32_t> all = prompt;
    all.insert(all.end(), tokens.begin(), tokens.end());
    const auto logits = model.stage.logits(model.batch(all));
    for (std::int64_t t = length; t < config.context; ++t) {
      const auto row = logits.begin() + (t - first) * config.vocab;
      EXPECT_EQ(std::max_element(row, row + config.vocab) - row, all[static_cast<std::size_t>(t)])
          << "prompt of " << length << ", token " << t;
    }
  }
}

TEST_P(Generation, EndsWhereAskedAndRunsPastTheContext) {
  const ModelConfig config = GetParam();
  OwnedStage<float> model(config, 1);
  const auto generator =
      infer::Generator::make(config, model.stage.table(), model.parameters.data(), 60);
  const auto prompt = random_tokens(config.context, config.vocab, 1);
  infer::Sampler greedy({}, {});
  infer::GenerateOptions options;
  options.tokens = 40;
  const auto tokens = generator->generate(prompt, options, greedy, 0);
  EXPECT_EQ(tokens.size(), 40u);
  options.end_id = tokens[5];
  const auto ended = generator->generate(prompt, options, greedy, 0);
  EXPECT_EQ(ended.back(), tokens[5]);
  EXPECT_LE(ended.size(), 6u);
  options.end_id = -1;
  int calls = 0;
  const auto cut =
      generator->generate(prompt, options, greedy, 0, [&](std::int32_t) { return ++calls < 3; });
  EXPECT_EQ(cut.size(), 3u);
}

INSTANTIATE_TEST_SUITE_P(Models, Generation,
                         ::testing::Values(small_vanilla(), small_block(4, 2), small_block(3, 1),
                                           small_block(1, 2), small_block(6, 3)),
                         [](const auto& c) {
                           return c.param.kind == ModelKind::vanilla
                                      ? std::string("vanilla")
                                      : "block_l" + std::to_string(c.param.block_length) + "_p" +
                                            std::to_string(c.param.prefix);
                         });

// A prompt shorter than a block is padded on the left, as is any prompt with pad_left: the same as
// writing the pads oneself.
TEST(Padding, IsThePublishedLeftPadding) {
  const ModelConfig config = small_block(4, 2);
  OwnedStage<float> model(config, 1);
  const auto generator =
      infer::Generator::make(config, model.stage.table(), model.parameters.data(), 40);
  infer::Sampler greedy({}, {});
  infer::GenerateOptions options;
  options.tokens = 9;
  options.pad_id = 7;
  EXPECT_EQ(generator->generate({3, 5}, options, greedy, 0),
            generator->generate({7, 7, 3, 5}, options, greedy, 0));
  const auto exact = generator->generate({3, 5, 9, 2, 6}, options, greedy, 0);
  options.pad_left = true;
  const auto padded = generator->generate({3, 5, 9, 2, 6}, options, greedy, 0);
  EXPECT_EQ(padded, generator->generate({7, 7, 7, 3, 5, 9, 2, 6}, options, greedy, 0));
  EXPECT_EQ(exact.size(), padded.size());
}

}  // namespace
}  // namespace tessera
