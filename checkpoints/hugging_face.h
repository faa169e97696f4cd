// Names and configuration files as other tools have them: config.json of Hugging Face's
// GPTNeoXForCausalLM, config.json of block models, and our own exact tessera.json.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoints/safetensors.h"
#include "config/config.h"
#include "core/json.h"

namespace tessera::checkpoints {

inline constexpr const char* kHuggingFaceFile = "config.json";
inline constexpr const char* kExportFile = "tessera.json";
inline constexpr const char* kExportFormat = "tessera-export";
inline constexpr std::int64_t kExportVersion = 1;

// config.json for the model, its tensors stored as `type` (f32, bf16 or f16).
OrderedJson hugging_face_config(const ModelConfig& model, TensorType type,
                                std::int64_t end_of_text);
// The model that a config.json describes (ours, or GPT-NeoX's in the spelling of transformers 4 or
// 5). Error{data} naming `file` and the key that Tessera cannot represent.
ModelConfig model_from_hugging_face(const Json& json, const std::string& file);

// The "model" object of tessera.json: the keys of the configuration file.
OrderedJson model_to_json(const ModelConfig& model);
ModelConfig model_from_json(const Json& json, const std::string& file);

// Tensors that published files hold and that are no parameters: attention masks and rotary tables
// that older versions of transformers saved, and the block decoder's unused input table.
bool is_buffer(const std::string& name);

// The id of the end-of-text token by tokenizer.json ("" = none); 0 when it names none.
std::int64_t end_of_text_id(const std::string& tokenizer_json);

}  // namespace tessera::checkpoints
