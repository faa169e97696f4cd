// Text continuation with cached keys and values, one sequence at a time, for both families.
//
// Vanilla: the prompt is fed at once, then each new token. Block: whole prompt blocks go through
// the block decoder; the token decoder starts afresh for every block with P prefix rows made from
// the last context embedding, continued by the block's tokens so far (a partial last block of the
// prompt is given to it). Rotary positions are those of training. Generation may run past
// model.context.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "config/config.h"
#include "infer/sampler.h"
#include "model/parameter_table.h"

namespace tessera::infer {

struct GenerateOptions {
  std::int64_t tokens = 100;  // new ones at most
  SamplingOptions sampling;
  std::int32_t pad_id = 0;   // fills a prompt shorter than a block, on the left, as published
  bool pad_left = false;     // pad every prompt to whole blocks on the left (block models)
  std::int32_t end_id = -1;  // stop after this token; -1 = never
};

class Generator {
 public:
  virtual ~Generator() = default;

  // Continues `prompt` (at least one token); `prompt_index` keys the random numbers. Calls
  // `on_token` with each new token; a false return ends generation. Returns the new tokens.
  virtual std::vector<std::int32_t> generate(
      const std::vector<std::int32_t>& prompt, const GenerateOptions& options, Sampler& sampler,
      std::int64_t prompt_index, const std::function<bool(std::int32_t)>& on_token = {}) = 0;

  // `parameters`: the flat space of `table`; both must outlive the generator. `longest`: most
  // tokens of prompt and continuation together.
  static std::unique_ptr<Generator> make(const ModelConfig& config,
                                         const model::ParameterTable& table,
                                         const float* parameters, std::int64_t longest);
};

}  // namespace tessera::infer
