#include "model/layer_forward.h"

namespace tessera::model {
namespace {

// Visits a layer's parameters in published order: visit(name, shape kind, member).
template <typename Norm, typename Linear>
void visit(LayerParameters& p, Norm norm, Linear linear, std::int64_t width, std::int64_t ffn) {
  norm("input_layernorm", p.norm1_gain, p.norm1_bias);
  norm("post_attention_layernorm", p.norm2_gain, p.norm2_bias);
  linear("attention.query_key_value", 3 * width, width, p.qkv_weight, p.qkv_bias);
  linear("attention.dense", width, width, p.dense_weight, p.dense_bias);
  linear("mlp.dense_h_to_4h", ffn, width, p.up_weight, p.up_bias);
  linear("mlp.dense_4h_to_h", width, ffn, p.down_weight, p.down_bias);
}

std::string base_name(const std::string& prefix, std::int64_t index) {
  return prefix + ".layers." + std::to_string(index) + ".";
}

}  // namespace

LayerParameters add_layer_parameters(ParameterTable& table, const std::string& prefix,
                                     std::int64_t index, const ModelConfig& config) {
  const std::string base = base_name(prefix, index);
  LayerParameters p{};
  visit(
      p,
      [&](const std::string& name, std::int64_t& gain, std::int64_t& bias) {
        gain = table.add(base + name + ".weight", {config.width}, Initial::ones);
        bias = table.add(base + name + ".bias", {config.width}, Initial::zeros);
      },
      [&](const std::string& name, std::int64_t out, std::int64_t in, std::int64_t& weight,
          std::int64_t& bias) {
        weight = table.add(base + name + ".weight", {out, in}, Initial::normal);
        bias = table.add(base + name + ".bias", {out}, Initial::zeros);
      },
      config.width, config.ffn_mult * config.width);
  return p;
}

LayerParameters find_layer_parameters(const ParameterTable& table, const std::string& prefix,
                                      std::int64_t index) {
  const std::string base = base_name(prefix, index);
  LayerParameters p{};
  const auto find = [&](const std::string& name, std::int64_t& weight, std::int64_t& bias) {
    weight = table.find(base + name + ".weight");
    bias = table.find(base + name + ".bias");
    TESSERA_CHECK(weight >= 0 && bias >= 0);
  };
  visit(
      p, find,
      [&](const std::string& name, std::int64_t, std::int64_t, std::int64_t& weight,
          std::int64_t& bias) { find(name, weight, bias); },
      0, 0);
  return p;
}

}  // namespace tessera::model
