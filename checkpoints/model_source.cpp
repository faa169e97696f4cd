#include "checkpoints/model_source.h"

#include <algorithm>

#include "checkpoints/exchange.h"
#include "checkpoints/hugging_face.h"
#include "checkpoints/locate.h"
#include "checkpoints/names.h"
#include "config/load.h"
#include "core/error.h"

namespace tessera::checkpoints {
namespace {

bool holds_safetensors(FileSystem& files, const std::string& folder) {
  const std::vector<std::string> names = files.list(folder);
  return !files.exists(folder + "/" + kManifestName) &&
         std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.ends_with(".safetensors"); });
}

}  // namespace

ModelSource::ModelSource(const std::string& path, std::vector<std::string>& refused)
    : path_(without_slashes(path)) {
  FileSystem& files = FileSystem::posix();
  if (!files.exists(path_)) throw Error(Category::config, path_ + ": does not exist");
  if (describes_model(path_)) {
    model_ = imported_config(path_);
    files_ = std::make_unique<ImportSource>(path_);
    tokenizer_ = files_->tokenizer_json();
    return;
  }
  if (holds_safetensors(files, path_))
    throw Error(Category::config, path_ + ": holds neither " + kExportFile + " nor " +
                                      kHuggingFaceFile +
                                      ", which say how many heads the model has; put the model's "
                                      "own " +
                                      kHuggingFaceFile + " beside its safetensors");
  path_ = resolve_checkpoint(files, path_, refused);
  checkpoint_ = std::make_unique<CheckpointReader>(path_);
  model_ = parse_config(checkpoint_->state().config_yaml, path_ + "/" + kConfigName, path_).model;
  tokenizer_ = checkpoint_->tokenizer_json();
}

void ModelSource::require(const std::vector<TensorInfo>& tensors) const {
  if (files_) return files_->require(tensors);
  const std::vector<TensorInfo>& found = checkpoint_->tensors();
  const auto same = [](const TensorInfo& a, const TensorInfo& b) {
    return a.name == b.name && a.shape == b.shape;
  };
  if (!std::equal(found.begin(), found.end(), tensors.begin(), tensors.end(), same))
    throw Error(Category::data, path_ + ": its tensors are not those of its own " + kConfigName +
                                    "; it is of another model");
}

void ModelSource::read(const std::string& name, std::int64_t begin, std::int64_t end,
                       float* out) const {
  if (files_) return files_->read(name, begin, end, out);
  checkpoint_->read(CheckpointReader::Kind::param, name, begin, end, out);
}

}  // namespace tessera::checkpoints
