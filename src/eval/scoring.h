// Log-likelihoods of continuations after contexts, as the LM Evaluation Harness asks for them
// (docs/evaluation.md).
//
// A request becomes one sample: its tokens, the newest ones where they do not all fit, padded on
// the right (causal attention: what follows a token never changes its loss). Block models by both
// published ways: `pad` puts L_B - 1 pads in front, so that every token but the first is predicted;
// `no_pad` starts with the request's own first block, whose tokens are context alone: those of a
// continuation are not scored, as published, and counted in `unscored`. Windows of running text
// overlap by a block for that, so that only the text's own first block is lost.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "config/config.h"
#include "core/device.h"
#include "eval/loss.h"
#include "model/row_scores.h"

namespace tessera::eval {

struct Request {
  std::vector<std::int32_t> context, continuation;  // at least one token each
};

struct Likelihood {
  double sum = 0;             // log-likelihood of the scored tokens, nats
  bool greedy = true;         // each of them is the arg max
  std::int64_t scored = 0;    // tokens
  std::int64_t unscored = 0;  // tokens of the continuation in the first block (no_pad)
};

enum class BlockPadding { pad, no_pad };

// Scores of samples of one length: ids and targets [sequences, length]; see LossModel::score.
class Scorer {
 public:
  virtual ~Scorer() = default;
  // Lengths that samples may have, ascending, and how many of one length go together.
  virtual const std::vector<std::int64_t>& lengths() const = 0;
  virtual std::int64_t sequences(std::int64_t length) const = 0;
  // All ranks of a replica call it; those that EvaluationShare::counts have the result.
  virtual model::HostScores score(std::int64_t length, const model::MicroBatch& batch) = 0;
};

// A model of its own for each length, one at a time; `parameters` as in make_loss_model. Samples of
// up to `longest` tokens, `batch_tokens` of them together.
std::unique_ptr<Scorer> make_scorer(const ModelConfig& config, Device device, Precision precision,
                                    const float* parameters, std::int64_t longest,
                                    std::int64_t batch_tokens);

// Of all requests, on all ranks. Batches of neighbours in length are dealt out to replicas; nobody
// waits for anybody before the end. `pad_id` fills samples.
std::vector<Likelihood> log_likelihoods(const ModelConfig& config, Scorer& scorer,
                                        const std::vector<Request>& requests, BlockPadding padding,
                                        std::int32_t pad_id, comm::Communicator& ranks,
                                        EvaluationShare share);

// How running text is cut into requests of at most `tokens` tokens, context and continuation
// together. Every request but a text's first has at least `context` tokens of the text before what
// it predicts, as many as the model cannot predict in a request: 1, with no_pad a block.
struct Windows {
  std::int64_t tokens = 0, context = 1;  // tokens > context
};
// For a scorer of samples of up to `longest` tokens.
Windows text_windows(const ModelConfig& config, BlockPadding padding, std::int64_t longest);

// A text's tokens cut into requests that predict each of them once, behind as many as fit: the
// harness's rolling windows. The first one's context is `prefix` (end-of-text) alone; so with
// no_pad the text's first L_B - 1 tokens are not scored, and no others.
std::vector<Request> rolling_requests(const std::vector<std::int32_t>& tokens,
                                      const Windows& windows, std::int32_t prefix);

}  // namespace tessera::eval
