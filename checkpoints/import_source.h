// The safetensors files of a folder that another tool (or an export) wrote, as one set of tensors.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "checkpoints/safetensors.h"

namespace tessera::checkpoints {

class ImportSource {
 public:
  // FOLDER/model.safetensors, or the shards that FOLDER/model.safetensors.index.json names, or the
  // only *.safetensors file in FOLDER. Error{data} when there is none, when it holds both of the
  // first two, shards without an index, or files that contradict the index.
  explicit ImportSource(const std::string& folder);

  struct Source {
    const SafetensorsReader* file = nullptr;
    const TensorEntry* entry = nullptr;
  };
  // By name, without buffers (hugging_face.h).
  const std::map<std::string, Source>& tensors() const { return tensors_; }
  // Names of the buffers that were left out, in file order.
  const std::vector<std::string>& skipped() const { return skipped_; }
  const std::vector<SafetensorsReader>& files() const { return files_; }

  // Elements [begin, end) of a tensor that is there.
  void read(const std::string& name, std::int64_t begin, std::int64_t end, float* out) const;
  // FOLDER/tokenizer.json, or "".
  std::string tokenizer_json() const;

  // Error{data} naming tensors that are missing, that the model does not have, or whose shape is
  // another; at most a few of each.
  void require(const std::vector<TensorInfo>& wanted) const;

 private:
  void open_shards(const std::string& index_file);
  void open(const std::string& name);

  std::string folder_;
  std::vector<SafetensorsReader> files_;
  std::map<std::string, Source> tensors_;
  std::vector<std::string> skipped_;
};

}  // namespace tessera::checkpoints
