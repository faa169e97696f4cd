// Export to and import from the files other tools use: safetensors with published names.
//
// Vanilla: OUT/model.safetensors, or shards and their index (export_weights.h), and config.json as
// Hugging Face's GPTNeoXForCausalLM loads them (names gpt_neox.*, embed_out.weight). Block: the
// names of the published Block Transformer code; config.json holds the model's shape. Both:
// OUT/tokenizer.json where the checkpoint has one, and OUT/tessera.json (format version, model
// configuration, step) so that import is exact.
// import(export(x)) has x's fp32 parameters bit for bit. The published block checkpoints' dead
// table (block_decoder.gpt_neox.embed_in.weight) is skipped on import and not exported.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "checkpoints/export_weights.h"
#include "checkpoints/safetensors.h"
#include "config/config.h"

namespace tessera::checkpoints {

struct ExportOptions {
  TensorType type = TensorType::f32;              // or bf16, f16
  std::int64_t shard_bytes = kDefaultShardBytes;  // most bytes of tensor data a file
  bool force = false;                             // also into a folder that is not empty
};

struct Exported {
  std::int64_t files = 0, bytes = 0;  // of weights
};

// Writes OUT (created). Error{config} when it exists and is not empty, unless forced; then the
// export that it holds, if any, is replaced: it stays as it is until all new weights are on the
// disk under temporary names, then goes (its description first), and the new files take their
// names: weights, index, tokenizer, config.json, tessera.json. So OUT describes the old model or
// none or the new one at any moment, never a mixture; whatever fails, running it again cures it.
// Other files of the folder are left alone.
Exported export_model(FileSystem& files, const CheckpointReader& checkpoint, const Config& config,
                      const std::string& out, const ExportOptions& options);

// Whether FOLDER holds a config.json or tessera.json.
bool describes_model(const std::string& folder);

// The model configuration that FOLDER's tessera.json, else its config.json describes.
ModelConfig imported_config(const std::string& folder);

// What FOLDER's tessera.json says of the checkpoint that was exported; nothing where there is none.
struct ExportOrigin {
  std::int64_t step = 0, tokens = 0;
};
std::optional<ExportOrigin> export_origin(const std::string& folder);

// Reads every tensor of `tensors` from FOLDER and writes a checkpoint of step 0 with zero moments
// below `run_folder`/checkpoints. Error{data} naming missing, superfluous or wrongly shaped
// tensors. `build` is TrainingState's. Returns the checkpoint's path.
std::string import_model(FileSystem& files, const std::string& folder, const Config& config,
                         const std::vector<TensorInfo>& tensors, const std::string& run_folder,
                         const std::string& build);

}  // namespace tessera::checkpoints
