#include "golden/golden_case.h"

#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"
#include "model/architecture.h"

namespace tessera::golden {

std::vector<std::string> case_files() {
  const char* wish = std::getenv("TESSERA_GOLDEN_DIR");
  const std::string folder = wish ? wish : std::string(TESSERA_SOURCE_DIR) + "/tests/golden";
  std::vector<std::string> files;
  for (const std::string& name : FileSystem::posix().list(folder))
    if (name.ends_with(".safetensors")) files.push_back(folder + "/" + name);
  return files;
}

Case::Case(const std::string& path) : file_(path) {
  const Json config = parse_json(file_.metadata().at("config"), path + " metadata");
  model_.vocab = config.at("vocab");
  model_.width = config.at("width");
  model_.heads = config.at("heads");
  model_.layers = config.at("layers");
  model_.block_layers = config.at("block_layers");
  model_.token_layers = config.at("token_layers");
  model_.block_length = config.at("block_length");
  model_.prefix = config.at("prefix");
  model_.rotary_pct = config.at("rotary_pct");
  model_.rotary_base = config.at("rotary_base");
  model_.eps = config.at("eps");
  model_.ffn_mult = config.at("ffn_mult");
  model_.kind = model_.block_length == 0 ? ModelKind::vanilla : ModelKind::block;
  ids_ = integers("ids");
  sequences_ = shape("ids").at(0);
  model_.context = shape("ids").at(1);
}

std::vector<float> Case::floats(const std::string& name) const {
  const auto* entry = file_.find(name);
  if (!entry) throw Error(Category::data, file_.path() + ": no tensor " + name);
  std::vector<float> values(static_cast<std::size_t>(entry->count()));
  file_.read_floats(*entry, 0, entry->count(), values.data());
  return values;
}

std::vector<std::int32_t> Case::integers(const std::string& name) const {
  const auto* entry = file_.find(name);
  if (!entry) throw Error(Category::data, file_.path() + ": no tensor " + name);
  std::vector<std::int32_t> values;
  for (const std::int64_t x : file_.read_integers(*entry))
    values.push_back(static_cast<std::int32_t>(x));
  return values;
}

std::vector<std::int64_t> Case::shape(const std::string& name) const {
  const auto* entry = file_.find(name);
  if (!entry) throw Error(Category::data, file_.path() + ": no tensor " + name);
  return entry->shape;
}

Model::Model(const Case& c, const model::ModelOptions& options)
    : stage_(c.model(), c.sequences(), 1, options),
      batch_{c.sequences(), c.ids().data(), c.ids().data()} {
  const auto size = static_cast<std::size_t>(table().flat_size());
  parameters.resize(size);
  gradients.resize(size);
  for (const model::Parameter& p : table().parameters()) {
    const std::vector<float> values = c.floats("param." + p.name);
    std::copy(values.begin(), values.end(), parameters.begin() + p.offset);
  }
  MemoryPlan plan;
  stage_.plan(plan);
  arena_ = std::make_unique<Arena>(plan);
  stage_.bind(*arena_, parameters.data(), gradients.data());
}

double Model::run() {
  std::fill(gradients.begin(), gradients.end(), 0.0f);
  const double targets = static_cast<double>(batch_.sequences) *
                         static_cast<double>(model::targets_a_sample(stage_.config()));
  double sum = 0;
  const auto weight = static_cast<float>(1 / targets);
  stage_.forward(0, batch_, model::HeadMode::train, &weight, &sum);
  stage_.backward(0);
  return sum / targets;
}

}  // namespace tessera::golden
