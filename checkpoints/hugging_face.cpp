#include "checkpoints/hugging_face.h"

#include <array>
#include <cmath>
#include <limits>

#include "checkpoints/names.h"
#include "core/error.h"

namespace tessera::checkpoints {
namespace {

constexpr const char* kNeoxType = "gpt_neox";
constexpr const char* kBlockType = "block_transformer";
constexpr const char* kEmbedderKey = "embedder";
constexpr const char* kConcat = "concat";
constexpr const char* kProjection = "projection";

[[noreturn]] void fail(const std::string& file, const std::string& fault) {
  throw Error(Category::data, file + ": " + fault);
}

const Json* find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t positive(const Json& object, const char* key, const std::string& file) {
  const Json* value = find(object, key);
  if (!value) fail(file, std::string("key \"") + key + "\" is missing");
  if (!value->is_number_unsigned() || value->get<std::uint64_t>() == 0 ||
      value->get<std::uint64_t>() > (std::uint64_t{1} << 40))
    fail(file, std::string("key \"") + key + "\" is not a whole number from 1 to 2^40");
  return value->get<std::int64_t>();
}

double real(const Json& value, const char* key, const std::string& file) {
  if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() <= 0)
    fail(file, std::string("key \"") + key + "\" is not a positive number");
  return value.get<double>();
}

double real_or(const Json& object, const char* key, double otherwise, const std::string& file) {
  const Json* value = find(object, key);
  return value ? real(*value, key, file) : otherwise;
}

std::string text_or(const Json& object, const char* key, const std::string& otherwise,
                    const std::string& file) {
  const Json* value = find(object, key);
  if (!value) return otherwise;
  if (!value->is_string()) fail(file, std::string("key \"") + key + "\" is not a string");
  return value->get<std::string>();
}

// What Tessera computes is fixed: a key that says otherwise is refused.
void require_flag(const Json& object, const char* key, bool expected, const std::string& file) {
  const Json* value = find(object, key);
  if (value && *value != expected)
    fail(file, std::string("key \"") + key + "\" is " + shown(value->dump()) +
                   "; Tessera supports " + (expected ? "true" : "false") + " alone");
}

// Rotary settings: `rotary_pct`, `rotary_emb_base` or `rope_theta` (transformers 4), or inside
// `rope_parameters` (5).
void read_rotary(const Json& json, ModelConfig& model, const std::string& file) {
  const Json* scaling = find(json, "rope_scaling");
  const Json* parameters = find(json, "rope_parameters");
  for (const Json* each : {scaling, parameters}) {
    if (!each) continue;
    if (!each->is_object()) fail(file, "rotary parameters are not an object");
    const std::string kind =
        text_or(*each, "rope_type", text_or(*each, "type", "default", file), file);
    if (kind != "default")
      fail(file, "rotary scaling \"" + shown(kind) + "\"; Tessera supports \"default\" alone");
    model.rotary_pct = real_or(*each, "partial_rotary_factor", model.rotary_pct, file);
    model.rotary_base = real_or(*each, "rope_theta", model.rotary_base, file);
  }
  model.rotary_pct = real_or(json, "rotary_pct", model.rotary_pct, file);
  model.rotary_base = real_or(json, "rope_theta", model.rotary_base, file);
  model.rotary_base = real_or(json, "rotary_emb_base", model.rotary_base, file);
}

const char* torch_type(TensorType type) {
  switch (type) {
    case TensorType::bf16:
      return "bfloat16";
    case TensorType::f16:
      return "float16";
    default:
      return "float32";
  }
}

struct Count {
  const char* key;
  std::int64_t ModelConfig::*member;
};
constexpr std::array<Count, 5> kCounts = {{{"vocab", &ModelConfig::vocab},
                                           {"width", &ModelConfig::width},
                                           {"heads", &ModelConfig::heads},
                                           {"context", &ModelConfig::context},
                                           {"ffn_mult", &ModelConfig::ffn_mult}}};
constexpr std::array<Count, 4> kBlockCounts = {{{"block_layers", &ModelConfig::block_layers},
                                                {"token_layers", &ModelConfig::token_layers},
                                                {"block_length", &ModelConfig::block_length},
                                                {"prefix", &ModelConfig::prefix}}};

// What both descriptions of a block model say of its two decoders and its embedder.
void write_block_keys(const ModelConfig& model, OrderedJson& json) {
  for (const Count& each : kBlockCounts) json[each.key] = model.*each.member;
  json[kEmbedderKey] = model.embedder == Embedder::projection ? kProjection : kConcat;
}
void read_block_keys(const Json& json, const std::string& file, ModelConfig& model) {
  for (const Count& each : kBlockCounts) model.*each.member = positive(json, each.key, file);
  // Exports older than the key concatenate.
  const std::string embedder = text_or(json, kEmbedderKey, kConcat, file);
  if (embedder != kConcat && embedder != kProjection)
    fail(file, std::string("key \"") + kEmbedderKey + "\" is \"" + shown(embedder) +
                   "\"; Tessera knows \"" + kConcat + "\" and \"" + kProjection + "\"");
  model.embedder = embedder == kConcat ? Embedder::concat : Embedder::projection;
}

}  // namespace

OrderedJson hugging_face_config(const ModelConfig& model, TensorType type,
                                std::int64_t end_of_text) {
  const bool block = model.kind == ModelKind::block;
  OrderedJson json;
  json["architectures"] = OrderedJson::array({block ? "BlockTransformer" : "GPTNeoXForCausalLM"});
  json["model_type"] = block ? kBlockType : kNeoxType;
  json["torch_dtype"] = torch_type(type);
  json["vocab_size"] = model.vocab;
  json["hidden_size"] = model.width;
  json["intermediate_size"] = model.ffn_mult * model.width;
  json["num_attention_heads"] = model.heads;
  if (block)
    write_block_keys(model, json);
  else
    json["num_hidden_layers"] = model.layers;
  json["max_position_embeddings"] = model.context;
  json["hidden_act"] = "gelu";
  json["layer_norm_eps"] = model.eps;
  json["rotary_pct"] = model.rotary_pct;
  json["rotary_emb_base"] = model.rotary_base;
  json["use_parallel_residual"] = true;
  json["attention_bias"] = true;
  json["tie_word_embeddings"] = false;
  json["initializer_range"] = 0.02;
  json["bos_token_id"] = end_of_text;
  json["eos_token_id"] = end_of_text;
  return json;
}

ModelConfig model_from_hugging_face(const Json& json, const std::string& file) {
  if (!json.is_object()) fail(file, "is not a JSON object");
  const std::string type = text_or(json, "model_type", "", file);
  if (type != kNeoxType && type != kBlockType)
    fail(file, "model_type \"" + shown(type) + "\"; Tessera imports gpt_neox and " + kBlockType);
  ModelConfig model;
  model.kind = type == kNeoxType ? ModelKind::vanilla : ModelKind::block;
  model.vocab = positive(json, "vocab_size", file);
  model.width = positive(json, "hidden_size", file);
  model.heads = positive(json, "num_attention_heads", file);
  model.context = positive(json, "max_position_embeddings", file);
  if (model.kind == ModelKind::vanilla)
    model.layers = positive(json, "num_hidden_layers", file);
  else
    read_block_keys(json, file, model);
  const std::int64_t inner = positive(json, "intermediate_size", file);
  if (inner % model.width != 0)
    fail(file, "intermediate_size " + std::to_string(inner) + " is no multiple of hidden_size " +
                   std::to_string(model.width));
  model.ffn_mult = inner / model.width;
  model.eps = real_or(json, "layer_norm_eps", model.eps, file);
  read_rotary(json, model, file);
  if (const std::string act = text_or(json, "hidden_act", "gelu", file); act != "gelu")
    fail(file,
         "hidden_act \"" + shown(act) + "\"; Tessera supports \"gelu\" (the exact one) alone");
  require_flag(json, "use_parallel_residual", true, file);
  require_flag(json, "attention_bias", true, file);
  require_flag(json, "tie_word_embeddings", false, file);
  return model;
}

OrderedJson model_to_json(const ModelConfig& model) {
  const bool block = model.kind == ModelKind::block;
  OrderedJson json;
  json["kind"] = block ? "block" : "vanilla";
  for (const Count& each : kCounts) json[each.key] = model.*each.member;
  if (block)
    write_block_keys(model, json);
  else
    json["layers"] = model.layers;
  json["rotary_pct"] = model.rotary_pct;
  json["rotary_base"] = model.rotary_base;
  json["eps"] = model.eps;
  return json;
}

ModelConfig model_from_json(const Json& json, const std::string& file) {
  if (!json.is_object()) fail(file, "key \"model\" is not an object");
  const std::string kind = text_or(json, "kind", "", file);
  if (kind != "block" && kind != "vanilla") fail(file, "model kind \"" + shown(kind) + "\"");
  ModelConfig model;
  model.kind = kind == "block" ? ModelKind::block : ModelKind::vanilla;
  for (const Count& each : kCounts) model.*each.member = positive(json, each.key, file);
  if (model.kind == ModelKind::block)
    read_block_keys(json, file, model);
  else
    model.layers = positive(json, "layers", file);
  for (const auto& [key, member] : {std::pair{"rotary_pct", &ModelConfig::rotary_pct},
                                    {"rotary_base", &ModelConfig::rotary_base},
                                    {"eps", &ModelConfig::eps}}) {
    const Json* value = find(json, key);
    if (!value) fail(file, std::string("key \"") + key + "\" is missing");
    model.*member = real(*value, key, file);
  }
  return model;
}

bool is_buffer(const std::string& name) {
  if (name == "block_decoder.gpt_neox.embed_in.weight") return true;
  for (const char* suffix : {".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"})
    if (name.ends_with(suffix) && name.find("gpt_neox.") != std::string::npos) return true;
  return false;
}

std::int64_t end_of_text_id(const std::string& tokenizer_json) {
  if (tokenizer_json.empty()) return 0;
  const Json json = parse_json(tokenizer_json, kTokenizerName);
  if (!json.is_object()) return 0;
  if (json.value("type", Json()) == "bytes") return 256;
  const Json* added = find(json, "added_tokens");
  if (!added || !added->is_array()) return 0;
  for (const char* wanted : {"<|endoftext|>", "</s>"})
    for (const Json& token : *added)
      if (token.is_object() && token.value("content", Json()) == wanted) {
        const Json id = token.value("id", Json());
        if (id.is_number_unsigned() && id.get<std::uint64_t>() < (std::uint64_t{1} << 31))
          return id.get<std::int64_t>();
      }
  return 0;
}

}  // namespace tessera::checkpoints
