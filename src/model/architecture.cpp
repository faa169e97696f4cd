#include "model/architecture.h"

#include <functional>

#include "core/error.h"
#include "model/expansion.h"
#include "model/final_norm.h"
#include "model/head.h"
#include "model/layer.h"
#include "model/projection_embedder.h"
#include "model/token_embedding.h"

namespace tessera::model {
namespace {

// How to build each piece of a model; building declares its parameters.
template <typename T>
using Makers = std::vector<std::function<std::unique_ptr<Piece<T>>(ParameterTable&)>>;

template <typename T>
void add_layers(Makers<T>& makers, const ModelConfig& c, const std::string& prefix,
                const std::string& label, std::int64_t count, WindowShape windows,
                const ModelOptions& options) {
  const auto rotary = std::make_shared<RotaryTable<T>>(c, windows.length);
  for (std::int64_t i = 0; i < count; ++i)
    makers.push_back([=](ParameterTable& table) {
      return std::make_unique<Layer<T>>(c, table, prefix, label + " " + std::to_string(i), i,
                                        windows, rotary, options);
    });
}

template <typename T>
Makers<T> vanilla(const ModelConfig& c, const ModelOptions& options) {
  Makers<T> makers;
  const WindowShape windows{1, c.context};
  makers.push_back([=](ParameterTable& table) {
    return std::make_unique<TokenEmbedding<T>>(c, table, "gpt_neox.embed_in.weight", "embedding",
                                               1);
  });
  add_layers(makers, c, "gpt_neox", "layer", c.layers, windows, options);
  makers.push_back([=](ParameterTable& table) {
    return std::make_unique<Head<T>>(c, table, "gpt_neox", "embed_out.weight", windows,
                                     HeadRows{0, c.context - 1, 1});
  });
  return makers;
}

template <typename T>
Makers<T> block(const ModelConfig& c, const ModelOptions& options) {
  Makers<T> makers;
  const std::int64_t blocks = c.context / c.block_length;
  const WindowShape upper{1, blocks};
  const WindowShape lower{blocks - 1, c.prefix + c.block_length - 1, options.padding};
  makers.push_back([=](ParameterTable& table) -> std::unique_ptr<Piece<T>> {
    if (c.embedder == Embedder::projection)
      return std::make_unique<ProjectionEmbedder<T>>(c, table);
    return std::make_unique<TokenEmbedding<T>>(c, table, "embedder.embeddings.weight",
                                               "block embedder", c.block_length);
  });
  add_layers(makers, c, "block_decoder.gpt_neox", "block decoder layer", c.block_layers, upper,
             options);
  makers.push_back([=](ParameterTable& table) {
    return std::make_unique<FinalNorm<T>>(c, table, "block_decoder.gpt_neox",
                                          "block decoder final norm", blocks);
  });
  makers.push_back([=](ParameterTable& table) { return std::make_unique<Expansion<T>>(c, table); });
  add_layers(makers, c, "token_decoder.gpt_neox", "token decoder layer", c.token_layers, lower,
             options);
  makers.push_back([=](ParameterTable& table) {
    return std::make_unique<Head<T>>(c, table, "token_decoder.gpt_neox",
                                     "token_decoder.embed_out.weight", lower,
                                     HeadRows{c.prefix - 1, c.block_length, c.block_length});
  });
  return makers;
}

}  // namespace

ModelOptions model_options(const Config& config) {
  using kernels::AttentionKernel;
  const AttentionKernel attention =
      config.attention == AttentionChoice::native  ? AttentionKernel::native
      : config.attention == AttentionChoice::cudnn ? AttentionKernel::cudnn
                                                   : AttentionKernel::automatic;
  return {config.train.recompute, attention, config.data.padding != Padding::none};
}

std::int64_t piece_count(const ModelConfig& c) {
  return c.kind == ModelKind::vanilla ? c.layers + 2 : c.block_layers + c.token_layers + 4;
}

template <typename T>
std::vector<std::unique_ptr<Piece<T>>> make_pieces(const ModelConfig& config, PieceRange range,
                                                   ParameterTable& table,
                                                   const ModelOptions& options,
                                                   std::vector<std::int64_t>* offsets) {
  const Makers<T> makers =
      config.kind == ModelKind::vanilla ? vanilla<T>(config, options) : block<T>(config, options);
  TESSERA_CHECK(static_cast<std::int64_t>(makers.size()) == piece_count(config) &&
                range.begin >= 0 && range.begin < range.end && range.end <= piece_count(config));
  std::vector<std::unique_ptr<Piece<T>>> pieces;
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    if (offsets) offsets->push_back(table.flat_size());
    pieces.push_back(makers[static_cast<std::size_t>(i)](table));
  }
  return pieces;
}

PieceRange token_decoder_layers(const ModelConfig& c) {
  if (c.kind == ModelKind::vanilla) return {};
  return {c.block_layers + 3, c.block_layers + 3 + c.token_layers};
}

std::int64_t first_target(const ModelConfig& config) {
  return config.kind == ModelKind::vanilla ? 1 : config.block_length;
}

std::int64_t targets_a_sample(const ModelConfig& config) {
  return config.context - first_target(config);
}

#define TESSERA_MAKE_PIECES(T)                                              \
  template std::vector<std::unique_ptr<Piece<T>>> make_pieces(              \
      const ModelConfig&, PieceRange, ParameterTable&, const ModelOptions&, \
      std::vector<std::int64_t>*);
TESSERA_MAKE_PIECES(float)
TESSERA_MAKE_PIECES(double)
TESSERA_MAKE_PIECES(kernels::bf16)

}  // namespace tessera::model
