// Small models of both families as configurations, tensors and checkpoints, for the exchange tests.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "config/load.h"
#include "model/parameter_table.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {

inline FileSystem& posix() {
  return FileSystem::posix();
}

inline ModelConfig small(ModelKind kind) {
  ModelConfig model;
  model.kind = kind;
  model.vocab = 31;
  model.width = 24;
  model.heads = 3;
  model.layers = model.block_layers = 2;
  model.token_layers = 1;
  model.block_length = 3;
  model.prefix = 2;
  model.context = 36;
  model.rotary_pct = 0.5;
  model.rotary_base = 10000.1;
  model.eps = 1.1e-5;
  return model;
}

inline ModelConfig small_projecting() {
  ModelConfig model = small(ModelKind::block);
  model.embedder = Embedder::projection;
  return model;
}

inline Config config_of(const ModelConfig& model) {
  Config config;
  config.model = model;
  config.optimizer.warmup = 10;
  return config;
}

inline std::vector<TensorInfo> tensors_of(const ModelConfig& model) {
  std::vector<TensorInfo> tensors;
  const model::ParameterTable table = model::parameter_table(model);
  for (const model::Parameter& parameter : table.parameters())
    tensors.push_back({parameter.name, parameter.shape});
  return tensors;
}

// A checkpoint of `model` with random values, in three parts.
inline std::string checkpoint_of(const std::string& folder, const ModelConfig& model,
                                 const Values& values, const std::string& tokenizer) {
  const auto tensors = tensors_of(model);
  TrainingState state = sample_state(42);
  state.config_yaml = resolved_config(config_of(model));
  const std::string temporary = prepare_checkpoint(posix(), folder, 42, 0);
  std::vector<PartRecord> parts;
  for (const auto& slices : cut(tensors, values, 3))
    parts.push_back(
        write_part(posix(), temporary, static_cast<std::int64_t>(parts.size()), tensors, slices));
  return commit_checkpoint(posix(), folder, temporary, state, tensors, parts, tokenizer);
}

}  // namespace tessera::checkpoints::testing
