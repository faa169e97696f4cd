// One golden file: a configuration, parameters, inputs, and what float64 arithmetic made of them
// (tests/golden/README.md). Files come from TESSERA_GOLDEN_DIR, by default tests/golden.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoints/safetensors.h"
#include "config/config.h"
#include "model/stage.h"

namespace tessera::golden {

// Every *.safetensors of the folder, sorted.
std::vector<std::string> case_files();

class Case {
 public:
  explicit Case(const std::string& path);

  const ModelConfig& model() const { return model_; }
  std::int64_t sequences() const { return sequences_; }
  const std::vector<std::int32_t>& ids() const { return ids_; }
  // A tensor as float32, by name; fails the test when it is absent.
  std::vector<float> floats(const std::string& name) const;
  std::vector<std::int32_t> integers(const std::string& name) const;
  std::vector<std::int64_t> shape(const std::string& name) const;
  const checkpoints::SafetensorsReader& file() const { return file_; }

 private:
  checkpoints::SafetensorsReader file_;
  ModelConfig model_;
  std::int64_t sequences_ = 0;
  std::vector<std::int32_t> ids_;
};

// A stage with its own memory, its parameters those of the case.
class Model {
 public:
  explicit Model(const Case& c, const model::ModelOptions& options = {});
  model::Stage<float>& stage() { return stage_; }
  const model::ParameterTable& table() const { return stage_.table(); }
  std::vector<float> parameters, gradients;  // flat

  // Zeroes the gradients, runs the case's batch forward and backward; returns the mean loss.
  double run();
  std::vector<float> logits() { return stage_.logits(batch_); }

 private:
  model::Stage<float> stage_;
  model::MicroBatch batch_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace tessera::golden
