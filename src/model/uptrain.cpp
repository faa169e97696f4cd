#include "model/uptrain.h"

#include <algorithm>
#include <charconv>

#include "config/load.h"
#include "core/error.h"

namespace tessera::model {
namespace {

// A published name cut at its layer: "block_decoder.gpt_neox.layers.3.mlp.weight" under the
// decoder "block_decoder" is layer 3 with the rest ".mlp.weight".
struct LayerName {
  std::int64_t layer = -1;
  std::string rest;
};
LayerName layer_name(const std::string& name, const std::string& decoder) {
  const std::string prefix = decoder + ".gpt_neox.layers.";
  LayerName result;
  if (!name.starts_with(prefix)) return result;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + prefix.size(), end, result.layer);
  TESSERA_CHECK(error == std::errc());
  result.rest.assign(rest, end);
  return result;
}

// The vanilla layer that layer `i` of a decoder begins as.
std::int64_t vanilla_layer(std::int64_t i, bool token_decoder, const ModelConfig& block,
                           UptrainMethod method) {
  if (method == UptrainMethod::skip) return 2 * i;
  return method == UptrainMethod::partition && token_decoder ? block.block_layers + i : i;
}

// Why the layers of the two do not fit together, or "".
std::string layer_problem(const ModelConfig& vanilla, const ModelConfig& block,
                          UptrainMethod method) {
  const std::int64_t n = vanilla.layers, upper = block.block_layers, lower = block.token_layers;
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  const std::string found = "model.block_layers " + number(upper) + " and model.token_layers " +
                            number(lower) + ", but " + name_of(method) + " ";
  const std::string theirs = "the source's " + number(n) + " layers";
  switch (method) {
    case UptrainMethod::partition:
      if (upper + lower == n) return "";
      return found + "divides " + theirs + " between them: their sum must be " + number(n);
    case UptrainMethod::skip:
      if (n % 2 != 0)
        return "skip takes every second of an even number of layers, the source has " + number(n);
      if (upper == n / 2 && lower == n / 2) return "";
      return found + "gives every second of " + theirs + " to both: each must be " + number(n / 2);
    case UptrainMethod::duplicate:
      if (upper == n && lower == n) return "";
      return found + "gives all of " + theirs + " to both: each must be " + number(n);
  }
  return "";
}

}  // namespace

std::string name_of(UptrainMethod method) {
  return method == UptrainMethod::partition ? "partition"
         : method == UptrainMethod::skip    ? "skip"
                                            : "duplicate";
}

std::vector<std::string> uptrain_problems(const ModelConfig& vanilla, const ModelConfig& block,
                                          UptrainMethod method) {
  if (vanilla.kind != ModelKind::vanilla)
    return {"the source is a block model already; uptraining begins with a vanilla one"};
  if (block.kind != ModelKind::block)
    return {"model.kind is vanilla; the configuration must describe the block model to make"};
  std::vector<std::string> problems;
  if (block.embedder != Embedder::projection)
    problems.emplace_back(
        "model.embedder is concat, which cuts embeddings to width / block_length; uptraining needs "
        "projection");
  // Every key but these has its value in both; another head count would read the rows of queries,
  // keys and values as those of other heads.
  Config theirs, ours;
  theirs.model = vanilla;
  ours.model = block;
  for (const char* key : {"model.vocab", "model.width", "model.heads", "model.rotary_pct",
                          "model.rotary_base", "model.eps", "model.ffn_mult"})
    for (const ConfigDifference& d : config_differences(theirs, ours))
      if (d.key == key)
        problems.push_back(d.key + ": the source has " + d.before + ", the configuration " +
                           d.after);
  if (const std::string layers = layer_problem(vanilla, block, method); !layers.empty())
    problems.push_back(layers);
  return problems;
}

UptrainSource uptrain_source(const std::string& name, const ModelConfig& block,
                             UptrainMethod method) {
  using Kind = UptrainSource::Kind;
  for (const bool token_decoder : {false, true}) {
    const LayerName at = layer_name(name, token_decoder ? "token_decoder" : "block_decoder");
    if (at.layer < 0) continue;
    const std::int64_t layer = vanilla_layer(at.layer, token_decoder, block, method);
    return {Kind::copy, "gpt_neox.layers." + std::to_string(layer) + at.rest};
  }
  if (name == "embedder.embeddings.weight" || name == "token_decoder.gpt_neox.embed_in.weight")
    return {Kind::copy, "gpt_neox.embed_in.weight"};
  if (name == "embedder.projection_layer.weight") return {Kind::mean, ""};
  if (name == "token_decoder.expansion_layer.weight") return {Kind::identities, ""};
  if (name == "block_decoder.gpt_neox.final_layer_norm.weight") return {Kind::ones, ""};
  if (name == "embedder.projection_layer.bias" || name == "token_decoder.expansion_layer.bias" ||
      name == "block_decoder.gpt_neox.final_layer_norm.bias")
    return {Kind::zeros, ""};
  // The token decoder's final norm and classifier.
  const std::string decoder = "token_decoder.";
  TESSERA_CHECK(name.starts_with(decoder));
  return {Kind::copy, name.substr(decoder.size())};
}

void uptrain_slice(UptrainSource::Kind kind, const ModelConfig& block, std::int64_t begin,
                   std::int64_t end, float* out) {
  using Kind = UptrainSource::Kind;
  const std::int64_t width = block.width, length = block.block_length;
  const auto weight = 1.0f / static_cast<float>(length);
  for (std::int64_t i = begin; i < end; ++i) {
    float& value = out[i - begin];
    switch (kind) {
      case Kind::mean: {  // [o, c, k]
        const std::int64_t component = i / length % width;
        value = i / (width * length) == component ? weight : 0.0f;
        break;
      }
      case Kind::identities:  // [p D + o, c]
        value = i / width % width == i % width ? 1.0f : 0.0f;
        break;
      case Kind::ones:
        value = 1;
        break;
      case Kind::zeros:
        value = 0;
        break;
      case Kind::copy:
        TESSERA_CHECK(false);
    }
  }
}

}  // namespace tessera::model
