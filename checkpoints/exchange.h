// Export to and import from the files other tools use: safetensors with published names.
//
// Vanilla: OUT/model.safetensors and config.json as Hugging Face's GPTNeoXForCausalLM loads them
// (names gpt_neox.*, embed_out.weight). Block: the names of the published Block Transformer code;
// config.json holds the model's shape. Both: OUT/tokenizer.json where the checkpoint has one, and
// OUT/tessera.json (format version, model configuration, step) so that import is exact.
// import(export(x)) has x's fp32 parameters bit for bit. The published block checkpoints' dead
// table (block_decoder.gpt_neox.embed_in.weight) is skipped on import and not exported.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "checkpoints/safetensors.h"
#include "config/config.h"

namespace tessera::checkpoints {

// Writes OUT (created; Error{config} when it exists and is not empty, unless `force`).
// `type`: f32 (default), bf16 or f16. `tensors` are the model's, from its configuration.
void export_model(FileSystem& files, const CheckpointReader& checkpoint, const Config& config,
                  const std::string& out, TensorType type, bool force);

// Whether FOLDER holds a config.json or tessera.json.
bool describes_model(const std::string& folder);

// The model configuration that files in FOLDER (model.safetensors or several shards with
// model.safetensors.index.json, + config.json or tessera.json) describe.
ModelConfig imported_config(const std::string& folder);

// Reads every tensor of `tensors` from FOLDER and writes a checkpoint of step 0 with zero moments
// below `run_folder`/checkpoints. Error{data} naming missing, superfluous or wrongly shaped
// tensors. `build` is TrainingState's. Returns the checkpoint's path.
std::string import_model(FileSystem& files, const std::string& folder, const Config& config,
                         const std::vector<TensorInfo>& tensors, const std::string& run_folder,
                         const std::string& build);

}  // namespace tessera::checkpoints
