// A model's parameters wherever they lie: in safetensors that another tool or an export wrote, or
// in a run's checkpoint.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "checkpoints/import_source.h"
#include "config/config.h"

namespace tessera::checkpoints {

class ModelSource {
 public:
  // A folder with tessera.json or config.json beside its safetensors (exchange.h), or what
  // resolve_checkpoint takes; newer checkpoints that do not verify are added to `refused`.
  // Error{config} when PATH is none of these, Error{data} when it is damaged.
  ModelSource(const std::string& path, std::vector<std::string>& refused);

  // Where it was found: the folder, or the checkpoint.
  const std::string& path() const { return path_; }
  const ModelConfig& model() const { return model_; }
  const std::string& tokenizer_json() const { return tokenizer_; }
  // Error{data} unless its tensors are exactly these.
  void require(const std::vector<TensorInfo>& tensors) const;
  // Elements [begin, end) of a tensor that is there.
  void read(const std::string& name, std::int64_t begin, std::int64_t end, float* out) const;

 private:
  std::string path_, tokenizer_;
  ModelConfig model_;
  std::unique_ptr<ImportSource> files_;
  std::unique_ptr<CheckpointReader> checkpoint_;
};

}  // namespace tessera::checkpoints
