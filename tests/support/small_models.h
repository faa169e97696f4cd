// Small models of both families and a stage with its own memory, for tests in float and double.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/random.h"
#include "model/initialise.h"
#include "model/stage.h"

namespace tessera::testing {

inline ModelConfig small_vanilla() {
  ModelConfig c;
  c.kind = ModelKind::vanilla;
  c.vocab = 31;
  c.width = 24;
  c.heads = 3;
  c.layers = 2;
  c.context = 12;
  c.rotary_pct = 0.5;
  return c;
}

inline ModelConfig small_block(std::int64_t block_length, std::int64_t prefix) {
  ModelConfig c = small_vanilla();
  c.kind = ModelKind::block;
  c.block_layers = c.token_layers = 1;
  c.block_length = block_length;
  c.prefix = prefix;
  return c;
}

// The same model with a block embedder that projects.
inline ModelConfig projecting(ModelConfig c) {
  c.embedder = Embedder::projection;
  return c;
}

// For names of parameterised tests: "vanilla", "block_l4_p2", "block_l4_p2_projecting".
inline std::string name_of(const ModelConfig& c) {
  if (c.kind == ModelKind::vanilla) return "vanilla";
  return "block_l" + std::to_string(c.block_length) + "_p" + std::to_string(c.prefix) +
         (c.embedder == Embedder::projection ? "_projecting" : "");
}

// Uniform random tokens, by seed.
inline std::vector<std::int32_t> random_tokens(std::int64_t count, std::int64_t vocab,
                                               std::uint64_t seed) {
  const CounterRandom random(seed, hash_name("tokens"));
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(random.bits(static_cast<std::uint64_t>(i)) %
                                            static_cast<std::uint64_t>(vocab)));
  return ids;
}

template <typename T>
class OwnedStage {
 public:
  OwnedStage(const ModelConfig& config, std::int64_t sequences,
             const model::ModelOptions& options = {})
      : stage(config, sequences, 1, options) {
    MemoryPlan plan;
    stage.plan(plan);
    arena_ = std::make_unique<Arena>(plan);
    parameters.resize(static_cast<std::size_t>(stage.table().flat_size()));
    gradients.resize(parameters.size());
    model::initialise(stage.table(), 5, parameters.data());
    // Away from the symmetric start, so that no term hides.
    const CounterRandom random(9, 9);
    for (const model::Parameter& p : stage.table().parameters())
      for (std::int64_t i = p.offset; i < p.offset + p.count; ++i)
        parameters[static_cast<std::size_t>(i)] +=
            static_cast<T>(0.1 * random.normal(static_cast<std::uint64_t>(i)));
    stage.bind(*arena_, parameters.data(), gradients.data());
  }

  // Sum of token losses, without gradients.
  double loss(const std::vector<std::int32_t>& ids) {
    double sum = 0;
    stage.forward(0, batch(ids), model::HeadMode::loss, nullptr, &sum);
    return sum;
  }
  // Gradients of `weight` times the sum of token losses, added to what is there.
  double accumulate(const std::vector<std::int32_t>& ids, double weight) {
    double sum = 0;
    const auto typed = static_cast<T>(weight);
    stage.forward(0, batch(ids), model::HeadMode::train, &typed, &sum);
    stage.backward(0);
    return sum;
  }
  model::MicroBatch batch(const std::vector<std::int32_t>& ids) const {
    return {static_cast<std::int64_t>(ids.size()) / stage.config().context, ids.data(), ids.data()};
  }

  model::Stage<T> stage;
  std::vector<T> parameters, gradients;

 private:
  std::unique_ptr<Arena> arena_;
};

}  // namespace tessera::testing
