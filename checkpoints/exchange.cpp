#include "checkpoints/exchange.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "checkpoints/first_checkpoint.h"
#include "checkpoints/hugging_face.h"
#include "checkpoints/import_source.h"
#include "checkpoints/layout.h"
#include "checkpoints/names.h"
#include "core/durable_folder.h"
#include "core/error.h"
#include "core/integers.h"
#include "core/json.h"
#include "core/text.h"

namespace tessera::checkpoints {
namespace {

// What an export consists of beside its weights.
constexpr std::array<std::string_view, 4> kOthers = {kExportFile, kHuggingFaceFile, kTokenizerName,
                                                     kShardIndexFile};
constexpr std::int64_t kMaxJsonBytes = std::int64_t{64} << 20;

// The configuration must be that of the tensors: the classifier's shape tells.
void check_model(const CheckpointReader& checkpoint, const ModelConfig& model) {
  const std::string head =
      model.kind == ModelKind::block ? "token_decoder.embed_out.weight" : "embed_out.weight";
  for (const TensorInfo& tensor : checkpoint.tensors())
    if (tensor.name == head && tensor.shape == std::vector<std::int64_t>{model.vocab, model.width})
      return;
  throw Error(Category::data, checkpoint.path() + ": holds no tensor \"" + head + "\" of shape [" +
                                  std::to_string(model.vocab) + ", " + std::to_string(model.width) +
                                  "], so its config.yaml is of another model");
}

// Error{config} unless OUT may be written into.
void check_target(FileSystem& files, const std::string& out, bool force) {
  if (!files.exists(out)) return;
  if (!force && !files.list(out).empty())
    throw Error(Category::config,
                out + ": exists and is not empty; choose another folder, or give --force");
  for (const auto& [name, what] :
       {std::pair{kManifestName, "a checkpoint"}, {"dataset.json", "token shards"}})
    if (files.exists(out + "/" + name))
      throw Error(Category::config, out + ": holds " + what +
                                        ", whose tokenizer.json an export would replace; choose "
                                        "another folder");
}

// Files under temporary names, of an export that ended early.
void remove_leftovers(FileSystem& files, const std::string& out) {
  const std::string_view suffix = kTemporarySuffix;
  for (const std::string& name : files.list(out)) {
    if (!name.ends_with(suffix)) continue;
    const std::string_view final_name =
        std::string_view(name).substr(0, name.size() - suffix.size());
    if (is_weight_file(final_name) || std::count(kOthers.begin(), kOthers.end(), final_name) > 0)
      files.remove_all(out + "/" + name);
  }
}

void check_space(FileSystem& files, const std::vector<WeightFile>& plan, const std::string& out) {
  std::int64_t bytes = 1 << 20;  // headers and descriptions
  for (const WeightFile& file : plan) bytes = checked_add(bytes, file.bytes, out);
  if (const std::int64_t available = files.free_bytes(out); available < bytes)
    throw Error(Category::io, out + ": too little space for the export: it needs " +
                                  human_bytes(bytes) + ", available are " + human_bytes(available));
}

// What describes a model goes first, then what says which files belong together, then the weights,
// each for good before the next: no mixture can be taken for a model, not even by a reader that
// asks for no description.
void remove_export(FileSystem& files, const std::string& out) {
  std::vector<std::string> weights;
  for (const std::string& name : files.list(out))
    if (is_weight_file(name)) weights.push_back(name);
  const std::vector<std::vector<std::string>> turns = {
      {kExportFile, kHuggingFaceFile}, {kTokenizerName, kShardIndexFile}, weights};
  for (const std::vector<std::string>& turn : turns) {
    for (const std::string& name : turn)
      if (files.exists(out + "/" + name)) files.remove_all(out + "/" + name);
    files.sync_directory(out);
  }
}

Json read_json(const std::string& path) {
  return parse_json(FileSystem::posix().read(path, kMaxJsonBytes), path);
}

// tessera.json, its format and version checked.
Json read_own(const std::string& path) {
  const Json json = read_json(path);
  if (!json.is_object() || json.value("format", Json()) != kExportFormat)
    throw Error(Category::data, path + ": key \"format\" is not \"" + kExportFormat + "\"");
  if (json.value("version", Json()) != kExportVersion)
    throw Error(Category::data, path + ": export format version " +
                                    shown(json.value("version", Json()).dump()) +
                                    ", this program reads " + std::to_string(kExportVersion));
  return json;
}

}  // namespace

Exported export_model(FileSystem& files, const CheckpointReader& checkpoint, const Config& config,
                      const std::string& out, const ExportOptions& options) {
  check_model(checkpoint, config.model);
  const std::vector<WeightFile> plan =
      plan_weights(checkpoint.tensors(), options.type, options.shard_bytes);
  check_target(files, out, options.force);
  create_durably(files, out);
  remove_leftovers(files, out);
  check_space(files, plan, out);

  try {
    for (const WeightFile& file : plan)
      write_weights(files, checkpoint, file.tensors, options.type,
                    out + "/" + file.name + kTemporarySuffix);
    remove_export(files, out);
    for (const WeightFile& file : plan) {
      const std::string path = out + "/" + file.name;
      files.rename(path + kTemporarySuffix, path);
    }
    files.sync_directory(out);
  } catch (const Error&) {
    try {
      remove_leftovers(files, out);
    } catch (const Error&) {
      // The first failure is the one to tell; the next export removes them.
    }
    throw;
  }
  if (plan.size() > 1) write_atomically(files, out + "/" + kShardIndexFile, shard_index(plan));

  const std::string& tokenizer = checkpoint.tokenizer_json();
  if (!tokenizer.empty()) write_atomically(files, out + "/" + kTokenizerName, tokenizer);
  write_atomically(
      files, out + "/" + kHuggingFaceFile,
      hugging_face_config(config.model, options.type, end_of_text_id(tokenizer)).dump(2) + "\n");
  const OrderedJson own = {
      {"format", kExportFormat},          {"version", kExportVersion},
      {"step", checkpoint.state().step},  {"tokens", checkpoint.state().tokens},
      {"dtype", type_name(options.type)}, {"model", model_to_json(config.model)}};
  write_atomically(files, out + "/" + kExportFile, own.dump(2) + "\n");

  Exported result;
  for (const WeightFile& file : plan) {
    ++result.files;
    result.bytes += files.size(out + "/" + file.name);
  }
  return result;
}

bool describes_model(const std::string& folder) {
  FileSystem& files = FileSystem::posix();
  return files.exists(folder + "/" + kExportFile) || files.exists(folder + "/" + kHuggingFaceFile);
}

ModelConfig imported_config(const std::string& folder) {
  const std::string own = folder + "/" + kExportFile, other = folder + "/" + kHuggingFaceFile;
  if (FileSystem::posix().exists(own))
    return model_from_json(read_own(own).value("model", Json()), own);
  if (FileSystem::posix().exists(other)) return model_from_hugging_face(read_json(other), other);
  throw Error(Category::data, folder + ": holds neither " + kExportFile + " nor " +
                                  kHuggingFaceFile + "; describe the model in a CONFIG.yaml");
}

std::optional<ExportOrigin> export_origin(const std::string& folder) {
  const std::string own = folder + "/" + kExportFile;
  if (!FileSystem::posix().exists(own)) return std::nullopt;
  const Json json = read_own(own);
  const auto count = [&](const char* key) {
    const Json value = json.value(key, Json());
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >> 62 != 0)
      throw Error(Category::data, own + ": key \"" + key + "\" is not a whole number below 2^62");
    return value.get<std::int64_t>();
  };
  return ExportOrigin{count("step"), count("tokens")};
}

std::string import_model(FileSystem& files, const std::string& folder, const Config& config,
                         const std::vector<TensorInfo>& tensors, const std::string& run_folder,
                         const std::string& build) {
  const ImportSource source(folder);
  source.require(tensors);
  const auto give = [&](const TensorInfo& tensor, std::int64_t begin, std::int64_t end,
                        float* out) { source.read(tensor.name, begin, end, out); };
  return write_first_checkpoint(files, config, tensors, give, source.tokenizer_json(), run_folder,
                                build);
}

}  // namespace tessera::checkpoints
