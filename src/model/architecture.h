// The two model families as lists of pieces. A new architecture is a new list here.
//
//   vanilla: embedding, layer x layers, head
//   block:   block embedder (concatenating or projecting), layer x block_layers, final norm,
//   expansion + token embedding,
//            layer x token_layers, head
#pragma once

#include <memory>
#include <vector>

#include "config/config.h"
#include "model/layer.h"
#include "model/piece.h"

namespace tessera::model {

// A run of pieces of the model's list.
struct PieceRange {
  std::int64_t begin = 0, end = 0;
  bool operator==(const PieceRange&) const = default;
};
// How a configuration wants layers computed.
ModelOptions model_options(const Config& config);

// Pieces of a model.
std::int64_t piece_count(const ModelConfig& config);

// The token decoder's layers among them; none in a vanilla model.
PieceRange token_decoder_layers(const ModelConfig& config);

// Builds the pieces of `range` and declares their parameters in `table`, in order; `offsets`
// receives where each piece's begin. Nothing is allocated beyond rotary tables.
template <typename T>
std::vector<std::unique_ptr<Piece<T>>> make_pieces(const ModelConfig& config, PieceRange range,
                                                   ParameterTable& table,
                                                   const ModelOptions& options = {},
                                                   std::vector<std::int64_t>* offsets = nullptr);

template <typename T>
std::vector<std::unique_ptr<Piece<T>>> make_pieces(const ModelConfig& config, ParameterTable& table,
                                                   const ModelOptions& options = {}) {
  return make_pieces<T>(config, {0, piece_count(config)}, table, options);
}

// Targets of one full sample without padding: L - 1 (vanilla) or L - L_B (block).
std::int64_t targets_a_sample(const ModelConfig& config);
// First token of a sample that is predicted: 1 or L_B.
std::int64_t first_target(const ModelConfig& config);

}  // namespace tessera::model
