// The weight files of an export, as Hugging Face's tools name and read them: model.safetensors
// alone, or shards model-00001-of-00003.safetensors, ... and model.safetensors.index.json, which
// says which shard holds which tensor.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "checkpoints/safetensors.h"
#include "core/file_system.h"

namespace tessera::checkpoints {

inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kShardIndexFile = "model.safetensors.index.json";
inline constexpr std::int64_t kDefaultShardBytes = 50'000'000'000;  // as transformers 5 has it
inline constexpr std::int64_t kMostShards = 10'000;                 // of an export and of an import

struct WeightFile {
  std::string name;
  std::vector<TensorInfo> tensors;
  std::int64_t bytes = 0;  // of the tensors' data
};

// Pure. The tensors in their order, stored as `type`, in files of at most `most_bytes` of data
// each; a tensor larger than that has a file of its own. One file is model.safetensors.
// Error{config} naming the option where there would be more than kMostShards.
std::vector<WeightFile> plan_weights(const std::vector<TensorInfo>& tensors, TensorType type,
                                     std::int64_t most_bytes);

// The text of the index of several files: metadata.total_size (bytes of all tensors' data) and
// total_parameters (their elements), weight_map (tensor -> file); as transformers writes it.
std::string shard_index(const std::vector<WeightFile>& files);

// Whether NAME is one that plan_weights gives: model.safetensors, or a shard of several.
bool is_weight_file(std::string_view name);
// Whether it is that of one shard of several.
bool is_shard(std::string_view name);

// Writes one of them to `path`, whole and synced. Error{data} naming the tensor where a finite
// value is beyond the range of `type`, which is f32, bf16 or f16.
void write_weights(FileSystem& files, const CheckpointReader& checkpoint,
                   const std::vector<TensorInfo>& tensors, TensorType type,
                   const std::string& path);

}  // namespace tessera::checkpoints
