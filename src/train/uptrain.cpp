#include "train/uptrain.h"

#include "checkpoints/first_checkpoint.h"
#include "core/error.h"
#include "train/load.h"
#include "train/setup.h"

namespace tessera::train {

void require_uptrainable(const checkpoints::ModelSource& source, const Config& config,
                         model::UptrainMethod method) {
  std::string text;
  for (const std::string& problem : model::uptrain_problems(source.model(), config.model, method))
    text += (text.empty() ? "" : "; ") + problem;
  if (!text.empty())
    throw Error(Category::config, source.path() + " cannot become this block model: " + text);
  source.require(tensor_infos(model::parameter_table(source.model())));
}

std::string write_uptrained(FileSystem& files, const checkpoints::ModelSource& source,
                            const Config& config, model::UptrainMethod method,
                            const std::string& run_folder) {
  const auto give = [&](const checkpoints::TensorInfo& tensor, std::int64_t begin, std::int64_t end,
                        float* out) {
    const model::UptrainSource from = model::uptrain_source(tensor.name, config.model, method);
    if (from.kind == model::UptrainSource::Kind::copy)
      source.read(from.from, begin, end, out);
    else
      model::uptrain_slice(from.kind, config.model, begin, end, out);
  };
  return checkpoints::write_first_checkpoint(
      files, config, tensor_infos(model::parameter_table(config.model)), give,
      source.tokenizer_json(), run_folder, build_name());
}

}  // namespace tessera::train
