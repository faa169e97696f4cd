#include "checkpoints/exchange.h"

#include <algorithm>
#include <cmath>

#include "checkpoints/first_checkpoint.h"
#include "checkpoints/hugging_face.h"
#include "checkpoints/import_source.h"
#include "checkpoints/layout.h"
#include "checkpoints/names.h"
#include "core/error.h"
#include "core/float_formats.h"
#include "core/integers.h"
#include "core/json.h"
#include "core/text.h"

namespace tessera::checkpoints {
namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 20;  // elements converted at a time
constexpr std::int64_t kMaxJsonBytes = std::int64_t{64} << 20;

// Rounds `count` floats to a 16-bit type. Error{data} when a finite value becomes infinite.
template <typename Convert>
void narrow_floats(const float* values, std::int64_t count, std::uint16_t infinity, Convert convert,
                   std::uint16_t* out, const std::string& what) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = convert(values[i]);
    if ((out[i] & 0x7fffu) == infinity && std::isfinite(values[i]))
      throw Error(Category::data, what + ": value " + std::to_string(values[i]) +
                                      " is beyond the range of this --dtype; choose a wider one");
  }
}

void write_tensors(FileSystem& files, const CheckpointReader& checkpoint, const std::string& path,
                   TensorType type) {
  SafetensorsWriter writer(files, path);
  writer.set_metadata("format", "pt");  // what transformers asks for
  for (const TensorInfo& tensor : checkpoint.tensors())
    writer.declare(tensor.name, type, tensor.shape);
  std::vector<float> values(static_cast<std::size_t>(kChunk));
  std::vector<std::uint16_t> narrow_values(static_cast<std::size_t>(kChunk));
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const std::int64_t count = element_count(tensor, checkpoint.path());
    for (std::int64_t at = 0; at < count; at += kChunk) {
      const std::int64_t some = std::min(kChunk, count - at);
      checkpoint.read(CheckpointReader::Kind::param, tensor.name, at, at + some, values.data());
      const void* bytes = narrow_values.data();
      if (type == TensorType::bf16)
        narrow_floats(values.data(), some, 0x7f80, float_to_bf16, narrow_values.data(),
                      tensor.name);
      else if (type == TensorType::f16)
        narrow_floats(values.data(), some, 0x7c00, float_to_f16, narrow_values.data(), tensor.name);
      else
        bytes = values.data();
      writer.append(bytes, some * element_bytes(type));
    }
  }
  writer.finish();
}

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

Json read_json(const std::string& path) {
  return parse_json(FileSystem::posix().read(path, kMaxJsonBytes), path);
}

}  // namespace

void export_model(FileSystem& files, const CheckpointReader& checkpoint, const Config& config,
                  const std::string& out, TensorType type, bool force) {
  TESSERA_CHECK(type == TensorType::f32 || type == TensorType::bf16 || type == TensorType::f16);
  check_model(checkpoint, config.model);
  if (files.exists(out) && !force && !files.list(out).empty())
    throw Error(Category::config,
                out + ": exists and is not empty; choose another folder, or give --force");
  files.create_directories(out);
  std::int64_t bytes = 1 << 20;
  for (const TensorInfo& tensor : checkpoint.tensors())
    bytes = checked_add(bytes, element_count(tensor, checkpoint.path()) * element_bytes(type), out);
  if (const std::int64_t available = files.free_bytes(out); available < bytes)
    throw Error(Category::io, out + ": too little space for the export: it needs " +
                                  human_bytes(bytes) + ", available are " + human_bytes(available));

  // The descriptions go first and come back last: a half-written folder describes no model.
  for (const char* name : {kExportFile, kHuggingFaceFile, kTokenizerName})
    if (files.exists(out + "/" + name)) files.remove_all(out + "/" + name);
  files.sync_directory(out);
  const std::string model_file = out + "/" + kModelFile;
  write_tensors(files, checkpoint, model_file + kTemporarySuffix, type);
  files.rename(model_file + kTemporarySuffix, model_file);
  files.sync_directory(out);
  const std::string& tokenizer = checkpoint.tokenizer_json();
  if (!tokenizer.empty()) write_atomically(files, out + "/" + kTokenizerName, tokenizer);
  write_atomically(
      files, out + "/" + kHuggingFaceFile,
      hugging_face_config(config.model, type, end_of_text_id(tokenizer)).dump(2) + "\n");
  const OrderedJson own = {
      {"format", kExportFormat},         {"version", kExportVersion},
      {"step", checkpoint.state().step}, {"tokens", checkpoint.state().tokens},
      {"dtype", type_name(type)},        {"model", model_to_json(config.model)}};
  write_atomically(files, out + "/" + kExportFile, own.dump(2) + "\n");
}

bool describes_model(const std::string& folder) {
  FileSystem& files = FileSystem::posix();
  return files.exists(folder + "/" + kExportFile) || files.exists(folder + "/" + kHuggingFaceFile);
}

ModelConfig imported_config(const std::string& folder) {
  const std::string own = folder + "/" + kExportFile, other = folder + "/" + kHuggingFaceFile;
  if (FileSystem::posix().exists(own)) {
    const Json json = read_json(own);
    if (!json.is_object() || json.value("format", Json()) != kExportFormat)
      throw Error(Category::data, own + ": key \"format\" is not \"" + kExportFormat + "\"");
    if (json.value("version", Json()) != kExportVersion)
      throw Error(Category::data, own + ": export format version " +
                                      shown(json.value("version", Json()).dump()) +
                                      ", this program reads " + std::to_string(kExportVersion));
    return model_from_json(json.value("model", Json()), own);
  }
  if (FileSystem::posix().exists(other)) return model_from_hugging_face(read_json(other), other);
  throw Error(Category::data, folder + ": holds neither " + kExportFile + " nor " +
                                  kHuggingFaceFile + "; describe the model in a CONFIG.yaml");
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
