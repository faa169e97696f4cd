// The Block Transformer specification's conformance checks: parameter counts to the last digit,
// causality, loss terms, the loss at initialisation, FLOPs a token.
#include <cmath>

#include <gtest/gtest.h>

#include "config/load.h"
#include "model/flops.h"
#include "support/small_models.h"

namespace tessera {
namespace {

using testing::OwnedStage;
using testing::random_tokens;
using testing::small_block;
using testing::small_vanilla;

ModelConfig paper(const std::string& name) {
  return load_config(std::string(TESSERA_SOURCE_DIR) + "/configs/paper/" + name + ".yaml").model;
}

struct Count {
  const char* name;
  std::int64_t total, non_embedding;
};

class ParameterCount : public ::testing::TestWithParam<Count> {};

TEST_P(ParameterCount, EqualsThePaper) {
  const auto table = model::parameter_table(paper(GetParam().name));
  EXPECT_EQ(table.total(), GetParam().total);
  EXPECT_EQ(model::non_embedding_parameters(table), GetParam().non_embedding);
}

INSTANTIATE_TEST_SUITE_P(Paper, ParameterCount,
                         ::testing::Values(Count{"vanilla_31m", 30494720, 4739072},
                                           Count{"vanilla_70m", 70426624, 18915328},
                                           Count{"vanilla_160m", 162322944, 85056000},
                                           Count{"vanilla_410m", 405334016, 302311424},
                                           Count{"block_33m", 33846272, 4739584},
                                           Count{"block_77m", 77391872, 18916352},
                                           Count{"block_170m", 173164032, 85057536},
                                           Count{"block_420m", 420313088, 302313472},
                                           Count{"block_1000m", 1045934080, 805740544},
                                           Count{"block_1400m", 1448800256, 1208606720},
                                           Count{"block_uptrain_170m", 204499200, 85057536},
                                           Count{"block_uptrain_420m", 463141888, 302313472}),
                         [](const auto& c) { return std::string(c.param.name); });

// GFLOP a token of the performance page's table, at context 2048.
TEST(Flops, EqualThePublishedDefinition) {
  EXPECT_NEAR(model::training_flops_per_token(paper("vanilla_70m")) / 1e9, 0.306, 5e-4);
  EXPECT_NEAR(model::training_flops_per_token(paper("vanilla_160m")) / 1e9, 0.855, 5e-4);
  EXPECT_NEAR(model::training_flops_per_token(paper("vanilla_410m")) / 1e9, 2.423, 5e-4);
  EXPECT_NEAR(model::training_flops_per_token(paper("block_170m")) / 1e9, 0.619, 5e-4);
  EXPECT_NEAR(model::training_flops_per_token(paper("block_420m")) / 1e9, 1.681, 5e-4);
  EXPECT_NEAR(model::training_flops_per_token(paper("block_1400m")) / 1e9, 6.086, 5e-4);
}

// What the pieces really multiply differs from the definition by what is never predicted: one
// window of the token decoder a sample.
TEST(Flops, PiecesAgreeWithTheDefinition) {
  for (const char* name : {"vanilla_160m", "block_170m", "block_uptrain_170m"}) {
    const ModelConfig config = paper(name);
    model::ParameterTable table;
    double sum = 0;
    for (const auto& piece : model::make_pieces<float>(config, table))
      sum += piece->multiply_adds();
    const double found = 6 * sum / double(config.context);
    const double defined = model::training_flops_per_token(config);
    EXPECT_LE(found, defined * (1 + 1e-12)) << name;
    EXPECT_GE(found, defined * (1 - 2.0 * double(config.block_length) / double(config.context)))
        << name;
  }
}

// Logits of token t (0-based, of those predicted) in a sample.
std::vector<std::vector<double>> logits_by_token(OwnedStage<double>& model,
                                                 const std::vector<std::int32_t>& ids) {
  const std::vector<double> flat = model.stage.logits(model.batch(ids));
  const auto vocab = static_cast<std::size_t>(model.stage.config().vocab);
  std::vector<std::vector<double>> rows;
  for (std::size_t at = 0; at < flat.size(); at += vocab)
    rows.emplace_back(flat.begin() + static_cast<std::ptrdiff_t>(at),
                      flat.begin() + static_cast<std::ptrdiff_t>(at + vocab));
  return rows;
}

void check_causality(const ModelConfig& config) {
  OwnedStage<double> model(config, 1);
  const auto ids = random_tokens(config.context, config.vocab, 2);
  const auto before = logits_by_token(model, ids);
  const std::int64_t first = model::first_target(config);
  ASSERT_EQ(static_cast<std::int64_t>(before.size()), config.context - first);
  for (std::int64_t changed = 0; changed < config.context; ++changed) {
    auto other = ids;
    auto& token = other[static_cast<std::size_t>(changed)];
    token = static_cast<std::int32_t>((token + 1) % config.vocab);
    const auto after = logits_by_token(model, other);
    for (std::int64_t t = first; t < config.context; ++t) {
      const bool same =
          after[static_cast<std::size_t>(t - first)] == before[static_cast<std::size_t>(t - first)];
      // The logits that predict token t depend on tokens before t, and on all of them.
      EXPECT_EQ(same, changed >= t) << "token " << changed << " changed, logits of " << t;
    }
  }
}

TEST(Causality, Vanilla) {
  check_causality(small_vanilla());
}
TEST(Causality, Block) {
  check_causality(small_block(4, 2));
}
TEST(Causality, BlockPrefixOne) {
  check_causality(small_block(3, 1));
}
TEST(Causality, BlockThatProjects) {
  check_causality(testing::projecting(small_block(4, 2)));
}
TEST(Causality, BlockLengthOne) {
  check_causality(small_block(1, 1));
}

TEST(LossTerms, PaperShapes) {
  EXPECT_EQ(model::targets_a_sample(paper("block_170m")), 2044);
  EXPECT_EQ(model::targets_a_sample(paper("vanilla_160m")), 2047);
  ModelConfig c = paper("block_33m");
  model::ParameterTable table;
  const auto pieces = model::make_pieces<float>(c, table);
  EXPECT_EQ(pieces[pieces.size() - 2]->output(1).rows, 511 * 5);
}

TEST(Initialisation, LossIsAboutTheLogarithmOfTheVocabulary) {
  ModelConfig config = small_block(4, 2);
  config.vocab = 997;
  config.width = 64;
  config.heads = 4;
  model::Stage<float> stage(config, 4, 1);
  MemoryPlan plan;
  stage.plan(plan);
  const Arena arena(plan);
  std::vector<float> parameters(static_cast<std::size_t>(stage.table().flat_size()));
  model::initialise(stage.table(), 1, parameters.data());
  stage.bind(arena, parameters.data(), nullptr);
  const auto ids = random_tokens(4 * config.context, config.vocab, 1);
  double sum = 0;
  stage.forward(0, {4, ids.data(), ids.data()}, model::HeadMode::loss, nullptr, &sum);
  EXPECT_NEAR(sum / double(4 * model::targets_a_sample(config)), std::log(997.0), 0.1);
}

TEST(Initialisation, OfAProjectionIsThePublishedOne) {
  const auto table = model::parameter_table(testing::projecting(small_block(3, 2)));
  const auto& embeddings = table[table.find("embedder.embeddings.weight")];
  const auto& weight = table[table.find("embedder.projection_layer.weight")];
  const auto& bias = table[table.find("embedder.projection_layer.bias")];
  EXPECT_EQ(embeddings.shape, (std::vector<std::int64_t>{31, 24}));
  EXPECT_EQ(embeddings.deviation, 0.02);
  EXPECT_EQ(weight.shape, (std::vector<std::int64_t>{24, 24, 3}));
  EXPECT_EQ(weight.initial, model::Initial::normal);
  EXPECT_EQ(weight.deviation, 1 / std::sqrt(24.0 * 3));
  EXPECT_EQ(bias.shape, (std::vector<std::int64_t>{24}));
  EXPECT_EQ(bias.initial, model::Initial::zeros);
}

TEST(Initialisation, FollowsNamesAndSpecifiedDeviations) {
  const auto table = model::parameter_table(paper("block_33m"));
  std::vector<float> a(1000), b(500);
  const auto& weight = table[table.find("token_decoder.expansion_layer.weight")];
  model::initialise_slice(weight, 3, 0, 1000, a.data());
  model::initialise_slice(weight, 3, 500, 1000, b.data());
  EXPECT_TRUE(std::equal(b.begin(), b.end(), a.begin() + 500));
  double squares = 0;
  for (const float x : a) squares += double(x) * x;
  EXPECT_NEAR(std::sqrt(squares / 1000), 1 / std::sqrt(256.0), 0.01);
  const auto& gain = table[table.find("block_decoder.gpt_neox.final_layer_norm.weight")];
  model::initialise_slice(gain, 3, 0, 256, a.data());
  EXPECT_EQ(a[255], 1.0f);
}

}  // namespace
}  // namespace tessera
