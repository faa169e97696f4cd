// Whole models in double precision: every parameter's gradient against finite differences, and
// equalities that need no reference.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "support/small_models.h"

namespace tessera {
namespace {

using testing::OwnedStage;
using testing::projecting;
using testing::random_tokens;
using testing::small_block;
using testing::small_vanilla;

// A width that no block length cuts evenly, which projecting embedders alone take.
ModelConfig odd_projecting() {
  ModelConfig c = projecting(small_block(3, 1));
  c.width = 16;
  c.heads = 2;
  return c;
}

class Gradients : public ::testing::TestWithParam<ModelConfig> {};

// Central differences along a random direction of each tensor, and along single elements.
TEST_P(Gradients, EqualFiniteDifferences) {
  const ModelConfig config = GetParam();
  OwnedStage<double> model(config, 2);
  const auto ids = random_tokens(2 * config.context, config.vocab, 3);
  model.accumulate(ids, 1.0);
  const double h = 1e-5;
  const CounterRandom random(17, 1);
  for (const model::Parameter& p : model.stage.table().parameters()) {
    std::vector<double> direction(static_cast<std::size_t>(p.count));
    double expected = 0;
    for (std::int64_t i = 0; i < p.count; ++i) {
      auto& d = direction[static_cast<std::size_t>(i)];
      d = random.normal(static_cast<std::uint64_t>(p.offset + i));
      expected += d * model.gradients[static_cast<std::size_t>(p.offset + i)];
    }
    const auto shifted = [&](double by) {
      for (std::int64_t i = 0; i < p.count; ++i)
        model.parameters[static_cast<std::size_t>(p.offset + i)] +=
            by * direction[static_cast<std::size_t>(i)];
      return model.loss(ids);
    };
    const double above = shifted(h), below = shifted(-2 * h);
    shifted(h);
    EXPECT_NEAR((above - below) / (2 * h), expected, 1e-5 * std::max(1.0, std::abs(expected)))
        << p.name;
  }
}

TEST_P(Gradients, AccumulationOneByTwoEqualsTwoByOne) {
  const ModelConfig config = GetParam();
  OwnedStage<double> together(config, 2), apart(config, 1);
  const auto ids = random_tokens(2 * config.context, config.vocab, 4);
  const double both = together.accumulate(ids, 0.25);
  double sum = 0;
  for (std::int64_t s = 0; s < 2; ++s)
    sum += apart.accumulate(
        {ids.begin() + s * config.context, ids.begin() + (s + 1) * config.context}, 0.25);
  EXPECT_NEAR(sum, both, 1e-10);
  for (std::size_t i = 0; i < together.gradients.size(); ++i)
    ASSERT_NEAR(apart.gradients[i], together.gradients[i], 1e-11) << i;
}

TEST_P(Gradients, RecomputationChangesNoBit) {
  const ModelConfig config = GetParam();
  const auto ids = random_tokens(2 * config.context, config.vocab, 6);
  OwnedStage<float> kept(config, 2);
  const double loss = kept.accumulate(ids, 0.1);
  for (const Recompute recompute : {Recompute::attention_mlp, Recompute::layer}) {
    OwnedStage<float> again(config, 2, {recompute});
    EXPECT_EQ(again.accumulate(ids, 0.1), loss);
    EXPECT_EQ(again.gradients, kept.gradients);
  }
}

// A target of -1 has no loss and no gradient; the rest is unchanged.
TEST_P(Gradients, MaskedTargetsCountForNothing) {
  const ModelConfig config = GetParam();
  OwnedStage<double> model(config, 1);
  const auto ids = random_tokens(config.context, config.vocab, 8);
  std::vector<std::int32_t> targets = ids;
  const double all = model.loss(ids);
  const auto last = static_cast<std::size_t>(config.context - 1);
  double masked = 0, single = 0;
  targets[last] = -1;
  model.stage.forward(0, {1, ids.data(), targets.data()}, model::HeadMode::loss, nullptr, &masked);
  std::fill(targets.begin(), targets.end(), -1);
  targets[last] = ids[last];
  model.stage.forward(0, {1, ids.data(), targets.data()}, model::HeadMode::loss, nullptr, &single);
  EXPECT_NEAR(masked + single, all, 1e-10);
  EXPECT_GT(single, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, Gradients,
                         ::testing::Values(small_vanilla(), small_block(4, 2), small_block(2, 1),
                                           small_block(3, 4), small_block(1, 1), small_block(1, 2),
                                           small_block(6, 1), projecting(small_block(4, 2)),
                                           projecting(small_block(1, 2)), odd_projecting()),
                         [](const auto& c) { return testing::name_of(c.param); });

// At L_B = 1 no token is ever fed to the token decoder: its table has exactly no gradient.
TEST(Gradients, UnusedTableAtBlockLengthOne) {
  const ModelConfig config = small_block(1, 2);
  OwnedStage<float> model(config, 2);
  model.accumulate(random_tokens(2 * config.context, config.vocab, 3), 1.0);
  const auto& table = model.stage.table();
  const auto& p = table[table.find("token_decoder.gpt_neox.embed_in.weight")];
  for (std::int64_t i = 0; i < p.count; ++i)
    ASSERT_EQ(model.gradients[static_cast<std::size_t>(p.offset + i)], 0.0f);
}

}  // namespace
}  // namespace tessera
