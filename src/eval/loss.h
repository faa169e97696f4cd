// Mean loss of a model on token data, by all ranks together.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "comm/communicator.h"
#include "data/token_source.h"
#include "model/piece.h"

namespace tessera::eval {

struct LossResult {
  double loss = 0;           // nats a predicted token
  double perplexity = 0;     // exp(loss)
  double bits_per_byte = 0;  // nats / ln 2 / bytes of the predicted tokens' text
  std::int64_t targets = 0;  // predicted tokens
  std::int64_t bytes = 0;    // of text that they stand for
  std::int64_t sequences = 0;
  double seconds = 0;
};

// Sum of token losses (nats) of a micro-batch in host memory.
using BatchLoss = std::function<double(const model::MicroBatch&)>;

// How the work of an evaluation is dealt out: replica `index` of `count` takes every count-th
// micro-batch; all ranks of a replica see it, and one of them (`counts`) has the losses.
struct EvaluationShare {
  std::int64_t index = 0, count = 1;
  bool counts = true;
};

// Loss over the first `sequences` samples of `source` (0 = all of one pass; open it with
// shuffle = false), in micro-batches of up to `batch`, of which the last may be short: replicas
// never wait for each other before the end, where `ranks` add up.
LossResult evaluate_loss(const ModelConfig& config, std::int64_t batch, const BatchLoss& batch_loss,
                         data::TokenSource& source, comm::Communicator& ranks,
                         EvaluationShare share, std::int64_t sequences);

// Bytes of text that the predicted tokens of samples stand for; targets counts them.
// `targets` [sequences, context] as a loader gives them.
std::int64_t target_bytes(const std::int32_t* targets, std::int64_t sequences, std::int64_t context,
                          std::int64_t first_target, const std::vector<std::int32_t>& token_bytes,
                          std::int64_t& count);

}  // namespace tessera::eval
