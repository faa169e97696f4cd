#include "checkpoints/export_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "checkpoints/layout.h"
#include "core/error.h"
#include "core/float_formats.h"
#include "core/integers.h"
#include "core/json.h"

namespace tessera::checkpoints {
namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 20;  // elements converted at a time

std::string shard_name(std::size_t number, std::size_t of) {
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "model-%05zu-of-%05zu.safetensors", number, of);
  return text.data();
}

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

}  // namespace

std::vector<WeightFile> plan_weights(const std::vector<TensorInfo>& tensors, TensorType type,
                                     std::int64_t most_bytes) {
  TESSERA_CHECK(most_bytes > 0);
  std::vector<WeightFile> files;
  for (const TensorInfo& tensor : tensors) {
    const std::int64_t bytes =
        checked_mul(element_count(tensor, "the model"), element_bytes(type), tensor.name);
    if (files.empty() || bytes > most_bytes - files.back().bytes) files.emplace_back();
    files.back().tensors.push_back(tensor);
    files.back().bytes = checked_add(files.back().bytes, bytes, tensor.name);
  }
  if (static_cast<std::int64_t>(files.size()) > kMostShards)
    throw Error(Category::config, "--max-shard-size " + std::to_string(most_bytes) +
                                      " would make " + std::to_string(files.size()) +
                                      " files, at most " + std::to_string(kMostShards) +
                                      " are allowed; choose a larger one");
  for (std::size_t i = 0; i < files.size(); ++i)
    files[i].name = files.size() == 1 ? kModelFile : shard_name(i + 1, files.size());
  return files;
}

std::string shard_index(const std::vector<WeightFile>& files) {
  std::int64_t bytes = 0, elements = 0;
  Json map = Json::object();  // sorted by tensor
  for (const WeightFile& file : files) {
    bytes = checked_add(bytes, file.bytes, kShardIndexFile);
    for (const TensorInfo& tensor : file.tensors) {
      elements = checked_add(elements, element_count(tensor, "the model"), kShardIndexFile);
      map[tensor.name] = file.name;
    }
  }
  const Json index = {{"metadata", {{"total_parameters", elements}, {"total_size", bytes}}},
                      {"weight_map", map}};
  return index.dump(2) + "\n";
}

bool is_weight_file(std::string_view name) {
  return name == kModelFile || is_shard(name);
}

bool is_shard(std::string_view name) {
  // "model-" digits "-of-" digits ".safetensors"
  const auto skip = [&](std::string_view word) {
    if (!name.starts_with(word)) return false;
    name.remove_prefix(word.size());
    return true;
  };
  const auto skip_digits = [&] {
    const std::size_t end = std::min(name.find_first_not_of("0123456789"), name.size());
    name.remove_prefix(end);
    return end >= 5;
  };
  return skip("model-") && skip_digits() && skip("-of-") && skip_digits() && name == ".safetensors";
}

void write_weights(FileSystem& files, const CheckpointReader& checkpoint,
                   const std::vector<TensorInfo>& tensors, TensorType type,
                   const std::string& path) {
  TESSERA_CHECK(type == TensorType::f32 || type == TensorType::bf16 || type == TensorType::f16);
  SafetensorsWriter writer(files, path);
  writer.set_metadata("format", "pt");  // what transformers asks for
  for (const TensorInfo& tensor : tensors) writer.declare(tensor.name, type, tensor.shape);
  std::vector<float> values(static_cast<std::size_t>(kChunk));
  std::vector<std::uint16_t> narrow_values(static_cast<std::size_t>(kChunk));
  for (const TensorInfo& tensor : tensors) {
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

}  // namespace tessera::checkpoints
