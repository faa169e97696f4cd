// Small models of both families as configurations, tensors and checkpoints, for the exchange tests.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/exchange.h"
#include "checkpoints/layout.h"
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

// A checkpoint of a small model of either family, exported and imported.
class Exchange : public ::testing::TestWithParam<ModelConfig> {
 protected:
  Exchange()
      : model_(GetParam()),
        tensors_(tensors_of(model_)),
        values_(sample_values(tensors_, 11)),
        checkpoint_(checkpoint_of(folder_ / "run/checkpoints", model_, values_,
                                  R"({"added_tokens": [{"id": 5, "content": "<|endoftext|>"}]})")) {
  }

  std::string export_as(TensorType type, std::int64_t shard_bytes = kDefaultShardBytes) {
    const std::string out = folder_ / "out";
    export_model(posix(), CheckpointReader(checkpoint_), config_of(model_), out,
                 {type, shard_bytes, true});
    return out;
  }
  std::string import_from(const std::string& folder) {
    return import_model(posix(), folder, config_of(imported_config(folder)),
                        tensors_of(imported_config(folder)), folder_ / "imported", "test build");
  }
  std::vector<float> all(const CheckpointReader& reader, CheckpointReader::Kind kind) const {
    std::vector<float> values;
    for (const TensorInfo& tensor : tensors_) {
      std::vector<float> one(static_cast<std::size_t>(element_count(tensor, "test")));
      reader.read(kind, tensor.name, 0, static_cast<std::int64_t>(one.size()), one.data());
      values.insert(values.end(), one.begin(), one.end());
    }
    return values;
  }

  const TemporaryFolder folder_;
  const ModelConfig model_;
  const std::vector<TensorInfo> tensors_;
  const Values values_;
  const std::string checkpoint_;
};

// What the cases of Exchange are called.
inline std::string name_of_case(const ::testing::TestParamInfo<ModelConfig>& each) {
  if (each.param.kind == ModelKind::vanilla) return "vanilla";
  return each.param.embedder == Embedder::projection ? "projecting" : "block";
}

}  // namespace tessera::checkpoints::testing
