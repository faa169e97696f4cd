// Cached generation of many prompts at once equals the full teacher-forced forward, token by token.
#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "core/error.h"
#include "infer/generator.h"
#include "support/small_models.h"

namespace tessera {
namespace {

using infer::GenerateOptions;
using infer::Generator;
using infer::Prompt;
using testing::OwnedStage;
using testing::projecting;
using testing::random_tokens;
using testing::small_block;
using testing::small_vanilla;

using Texts = std::vector<std::vector<std::int32_t>>;

std::vector<Prompt> prompts_of(const Texts& texts) {
  std::vector<Prompt> prompts;
  for (const auto& ids : texts) prompts.push_back({ids, static_cast<std::int64_t>(prompts.size())});
  return prompts;
}

// A prompt of every length from the first that needs no padding.
Texts of_all_lengths(const ModelConfig& config) {
  Texts texts;
  for (std::int64_t length = model::first_target(config); length < config.context; ++length)
    texts.push_back(random_tokens(length, config.vocab, static_cast<std::uint64_t>(length)));
  return texts;
}

class Generation : public ::testing::TestWithParam<ModelConfig> {
 protected:
  Generation() : config_(with_context(GetParam())), model_(config_, 1) {}
  static ModelConfig with_context(ModelConfig config) {
    config.context = 24;
    return config;
  }
  std::unique_ptr<Generator> generator(std::int64_t sequences, std::int64_t tokens = 40) {
    return Generator::make(config_, model_.stage.table(), model_.parameters.data(),
                           {sequences, config_.context, tokens});
  }
  ModelConfig config_;
  OwnedStage<float> model_;
};

// Greedy text from prompts of all lengths at once is what arg max over the full forward's logits
// says.
TEST_P(Generation, OfARaggedBatchEqualsTheFullForward) {
  const std::int64_t first = model::first_target(config_);
  const Texts texts = of_all_lengths(config_);
  const auto made = generator(static_cast<std::int64_t>(texts.size()));
  GenerateOptions options;
  options.tokens = config_.context;
  const Texts found = made->generate(prompts_of(texts), options);
  ASSERT_EQ(found.size(), texts.size());
  for (std::size_t n = 0; n < texts.size(); ++n) {
    ASSERT_EQ(found[n].size(), static_cast<std::size_t>(options.tokens));
    std::vector<std::int32_t> all = texts[n];
    all.insert(all.end(), found[n].begin(), found[n].end());
    all.resize(static_cast<std::size_t>(config_.context));
    const auto logits = model_.stage.logits(model_.batch(all));
    for (auto t = static_cast<std::int64_t>(texts[n].size()); t < config_.context; ++t) {
      const auto row = logits.begin() + (t - first) * config_.vocab;
      EXPECT_EQ(std::max_element(row, row + config_.vocab) - row, all[static_cast<std::size_t>(t)])
          << "prompt of " << texts[n].size() << ", token " << t;
    }
  }
}

// What a prompt gets does not depend on what is generated beside it, nor on earlier calls.
TEST_P(Generation, IsTheSameAloneAndInAnyBatch) {
  const std::vector<Prompt> prompts = prompts_of(of_all_lengths(config_));
  for (const double temperature : {0.0, 1.0}) {
    GenerateOptions options;
    options.tokens = 17;
    options.sampling.temperature = temperature;
    options.sampling.top_k = temperature > 0 ? 9 : 0;
    const Texts together =
        generator(static_cast<std::int64_t>(prompts.size()))->generate(prompts, options);
    const auto three = generator(3), one = generator(1);
    for (std::size_t n = 0; n < prompts.size(); n += 3) {
      const std::size_t end = std::min(n + 3, prompts.size());
      const Texts some = three->generate({prompts.begin() + static_cast<std::ptrdiff_t>(n),
                                          prompts.begin() + static_cast<std::ptrdiff_t>(end)},
                                         options);
      for (std::size_t i = n; i < end; ++i) EXPECT_EQ(some[i - n], together[i]) << i;
      EXPECT_EQ(one->generate({prompts[n]}, options)[0], together[n]) << n;
    }
  }
}

TEST_P(Generation, EndsWhereAskedAndRunsPastTheContext) {
  const auto made = generator(2);
  const std::vector<Prompt> prompts =
      prompts_of({random_tokens(config_.context, config_.vocab, 1),
                  random_tokens(config_.context - 3, config_.vocab, 2)});
  GenerateOptions options;
  options.tokens = 40;
  const Texts whole = made->generate(prompts, options);
  EXPECT_EQ(whole[0].size(), 40u);
  EXPECT_EQ(whole[1].size(), 40u);

  options.end_id = whole[0][5];
  const Texts ended = made->generate(prompts, options);
  for (std::size_t n = 0; n < 2; ++n) {
    const auto at = std::find(whole[n].begin(), whole[n].end(), options.end_id);
    const auto length = at == whole[n].end() ? 40 : at - whole[n].begin() + 1;
    EXPECT_EQ(ended[n], std::vector<std::int32_t>(whole[n].begin(), whole[n].begin() + length));
  }

  options.end_id = -1;
  Texts heard(2);
  const Texts cut = made->generate(prompts, options, [&](std::size_t n, std::int32_t token) {
    heard[n].push_back(token);
    return n == 1 || heard[n].size() < 3;
  });
  EXPECT_EQ(cut[0], std::vector<std::int32_t>(whole[0].begin(), whole[0].begin() + 3));
  EXPECT_EQ(cut[1], whole[1]);
  EXPECT_EQ(heard, cut);
}

TEST_P(Generation, RefusesWhatWasNotPlannedFor) {
  const auto made = generator(1, 4);
  const auto message = [&](const std::vector<Prompt>& prompts, std::int64_t tokens) {
    GenerateOptions options;
    options.tokens = tokens;
    try {
      made->generate(prompts, options);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const std::vector<std::int32_t> good = {1, 2, 3};
  EXPECT_NE(message({{{}, 0}}, 2).find("no tokens"), std::string::npos);
  EXPECT_NE(message({{{1, 1000000}, 0}}, 2).find("1000000"), std::string::npos);
  EXPECT_NE(message({{good, 0}, {good, 1}}, 2).find("planned for 1"), std::string::npos);
  EXPECT_NE(message({{good, 0}}, 5).find("1 to 4"), std::string::npos);
  EXPECT_NE(message({{random_tokens(60, config_.vocab, 1), 0}}, 2).find("60 tokens"),
            std::string::npos);
  EXPECT_EQ(message({{good, 0}}, 4), "");
}

TEST_P(Generation, OnlyChoosesWhatIsAllowed) {
  GenerateOptions options;
  options.tokens = 30;
  options.sampling.temperature = 3;
  options.allowed = {false, true, false, true, true};
  const auto tokens = generator(1)->generate({{{1, 2, 3}, 0}}, options)[0];
  for (const std::int32_t token : tokens) EXPECT_TRUE(token == 1 || token == 3 || token == 4);
  EXPECT_EQ(std::set<std::int32_t>(tokens.begin(), tokens.end()).size(), 3u);
}

// The plan is what is taken, and the largest batch is the last that fits.
TEST_P(Generation, TheLargestBatchFitsAndTheNextDoesNot) {
  const auto& table = model_.stage.table();
  infer::Limits limits{1, config_.context, 16};
  const auto bytes = [&](std::int64_t sequences) {
    limits.sequences = sequences;
    return Generator::plan(config_, table, limits, Device::cpu, Precision::fp32).total_bytes();
  };
  const std::int64_t room = bytes(37);
  const std::int64_t most =
      Generator::largest_batch(config_, table, limits, Device::cpu, Precision::fp32, room);
  EXPECT_GE(most, 37);
  EXPECT_LE(bytes(most), room);
  EXPECT_GT(bytes(most + 1), room);
  EXPECT_EQ(Generator::largest_batch(config_, table, limits, Device::cpu, Precision::fp32, 100), 0);
  EXPECT_EQ(generator(3, 16)->memory().total_bytes(), bytes(3));
}

INSTANTIATE_TEST_SUITE_P(Models, Generation,
                         ::testing::Values(small_vanilla(), small_block(4, 2), small_block(3, 1),
                                           small_block(1, 2), small_block(6, 3),
                                           projecting(small_block(4, 2)),
                                           projecting(small_block(3, 1))),
                         [](const auto& c) { return testing::name_of(c.param); });

// A prompt shorter than a block is padded on the left, as is any prompt with pad_left: the same as
// writing the pads oneself.
TEST(Padding, IsThePublishedLeftPadding) {
  const ModelConfig config = small_block(4, 2);
  OwnedStage<float> model(config, 1);
  const auto generator =
      Generator::make(config, model.stage.table(), model.parameters.data(), {2, 40, 9});
  GenerateOptions options;
  options.tokens = 9;
  options.pad_id = 7;
  const Texts shorter = generator->generate(prompts_of({{3, 5}, {7, 7, 3, 5}}), options);
  EXPECT_EQ(shorter[0], shorter[1]);
  const Texts exact = generator->generate(prompts_of({{3, 5, 9, 2, 6}}), options);
  options.pad_left = true;
  const Texts padded =
      generator->generate(prompts_of({{3, 5, 9, 2, 6}, {7, 7, 7, 3, 5, 9, 2, 6}}), options);
  EXPECT_EQ(padded[0], padded[1]);
  EXPECT_EQ(exact[0].size(), padded[0].size());
}

}  // namespace
}  // namespace tessera
