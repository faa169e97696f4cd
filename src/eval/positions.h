// Loss by a token's place: in its block, and in the context.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "comm/communicator.h"
#include "data/token_source.h"
#include "eval/loss.h"
#include "model/row_scores.h"

namespace tessera::eval {

// Mean loss (nats) of the targets at each place; 0 where there are none.
struct LossByPosition {
  std::vector<double> in_context;  // [context]
  std::vector<double> in_block;    // [L_B]; empty for vanilla models
};

// Scores of a micro-batch in host memory: LossModel::score.
using BatchScores = std::function<model::HostScores(const model::MicroBatch&)>;

// The samples that evaluate_loss() takes, dealt out as there.
LossByPosition evaluate_positions(const ModelConfig& config, std::int64_t batch,
                                  const BatchScores& batch_scores, data::TokenSource& source,
                                  comm::Communicator& ranks, EvaluationShare share,
                                  std::int64_t sequences);

}  // namespace tessera::eval
