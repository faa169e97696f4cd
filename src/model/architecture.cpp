#include "model/architecture.h"

#include "model/expansion.h"
#include "model/final_norm.h"
#include "model/head.h"
#include "model/layer.h"
#include "model/token_embedding.h"

namespace tessera::model {
namespace {

template <typename T>
using Pieces = std::vector<std::unique_ptr<Piece<T>>>;

template <typename T>
void add_layers(Pieces<T>& pieces, const ModelConfig& config, ParameterTable& table,
                const std::string& prefix, const std::string& label, std::int64_t count,
                WindowShape windows, const ModelOptions& options) {
  const auto rotary = std::make_shared<RotaryTable<T>>(config, windows.length);
  for (std::int64_t i = 0; i < count; ++i)
    pieces.push_back(std::make_unique<Layer<T>>(
        config, table, prefix, label + " " + std::to_string(i), i, windows, rotary, options));
}

template <typename T>
Pieces<T> vanilla(const ModelConfig& c, ParameterTable& table, const ModelOptions& options) {
  Pieces<T> pieces;
  const WindowShape windows{1, c.context};
  pieces.push_back(
      std::make_unique<TokenEmbedding<T>>(c, table, "gpt_neox.embed_in.weight", "embedding", 1));
  add_layers(pieces, c, table, "gpt_neox", "layer", c.layers, windows, options);
  pieces.push_back(std::make_unique<Head<T>>(c, table, "gpt_neox", "embed_out.weight", windows,
                                             HeadRows{0, c.context - 1, 1}));
  return pieces;
}

template <typename T>
Pieces<T> block(const ModelConfig& c, ParameterTable& table, const ModelOptions& options) {
  Pieces<T> pieces;
  const std::int64_t blocks = c.context / c.block_length;
  const WindowShape upper{1, blocks};
  const WindowShape lower{blocks - 1, c.prefix + c.block_length - 1};
  pieces.push_back(std::make_unique<TokenEmbedding<T>>(c, table, "embedder.embeddings.weight",
                                                       "block embedder", c.block_length));
  add_layers(pieces, c, table, "block_decoder.gpt_neox", "block decoder layer", c.block_layers,
             upper, options);
  pieces.push_back(std::make_unique<FinalNorm<T>>(c, table, "block_decoder.gpt_neox",
                                                  "block decoder final norm", blocks));
  pieces.push_back(std::make_unique<Expansion<T>>(c, table));
  add_layers(pieces, c, table, "token_decoder.gpt_neox", "token decoder layer", c.token_layers,
             lower, options);
  pieces.push_back(std::make_unique<Head<T>>(
      c, table, "token_decoder.gpt_neox", "token_decoder.embed_out.weight", lower,
      HeadRows{c.prefix - 1, c.block_length, c.block_length}));
  return pieces;
}

}  // namespace

template <typename T>
std::vector<std::unique_ptr<Piece<T>>> make_pieces(const ModelConfig& config, ParameterTable& table,
                                                   const ModelOptions& options) {
  return config.kind == ModelKind::vanilla ? vanilla<T>(config, table, options)
                                           : block<T>(config, table, options);
}

std::int64_t first_target(const ModelConfig& config) {
  return config.kind == ModelKind::vanilla ? 1 : config.block_length;
}

std::int64_t targets_a_sample(const ModelConfig& config) {
  return config.context - first_target(config);
}

template std::vector<std::unique_ptr<Piece<float>>> make_pieces(const ModelConfig&, ParameterTable&,
                                                                const ModelOptions&);
template std::vector<std::unique_ptr<Piece<double>>> make_pieces(const ModelConfig&,
                                                                 ParameterTable&,
                                                                 const ModelOptions&);

#ifdef TESSERA_HAS_CUDA
template std::vector<std::unique_ptr<Piece<kernels::bf16>>> make_pieces(const ModelConfig&,
                                                                        ParameterTable&,
                                                                        const ModelOptions&);
#endif

}  // namespace tessera::model
