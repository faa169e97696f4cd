// Text continuation for many prompts at once with cached keys and values, both families, CPU and
// CUDA (docs/generation.md).
//
// A turn adds one token a sequence (vanilla), or the L_B tokens of a block: the token decoder runs
// L_B rows a sequence, then the finished block goes through the block decoder as one row. Prompts
// may have any lengths. Blocks are counted from a prompt's start; tokens behind its last whole
// block are given to the token decoder in place of sampled ones, so that nothing is padded and
// nothing approximated (prompts shorter than a block, or all with pad_left, are padded on the left
// as published). Rotary positions are those of training. Generation may run past model.context.
//
// All memory is planned for Limits and taken once. On CUDA a turn is one graph launch, and the host
// is asked for nothing inside the loop, except for streaming and, every few turns, whether all
// sequences have ended.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/device.h"
#include "core/memory.h"
#include "model/parameter_table.h"
#include "parallel/engine.h"

namespace tessera::infer {

struct SamplingOptions {
  double temperature = 0;  // 0 = greedy (smallest id among equals)
  std::int64_t top_k = 0;  // keep the k likeliest; 0 = all
  double top_p = 1;        // keep the smallest set whose probability reaches p
  std::uint64_t seed = 1;
  bool operator==(const SamplingOptions&) const = default;
};

struct GenerateOptions {
  std::int64_t tokens = 100;  // new ones at most
  SamplingOptions sampling;
  std::vector<bool> allowed;  // ids that may be chosen; empty: all; shorter: the rest may not
  std::int32_t pad_id = 0;    // fills a prompt shorter than a block, on the left, as published
  bool pad_left = false;      // pad every prompt to whole blocks on the left (block models)
  std::int32_t end_id = -1;   // a sequence ends behind this token; -1 = never
};

struct Prompt {
  std::vector<std::int32_t> ids;  // at least one
  // Keys the random numbers: the token at position i of its continuation depends on (seed, index,
  // i) and its logits alone, never on what is generated beside it.
  std::int64_t index = 0;
};

struct Limits {
  std::int64_t sequences = 1;  // prompts at once
  std::int64_t prompt_tokens = 0, new_tokens = 0;
};

// Called with each new token of prompt `n` (of the call's prompts), in order; false ends it.
using OnToken = std::function<bool(std::size_t n, std::int32_t token)>;

class Generator {
 public:
  virtual ~Generator() = default;

  // Continues all prompts, at most Limits::sequences; returns the new tokens of each. Error{config}
  // where a prompt is empty, has ids outside the vocabulary, or exceeds the limits.
  virtual std::vector<std::vector<std::int32_t>> generate(const std::vector<Prompt>& prompts,
                                                          const GenerateOptions& options,
                                                          const OnToken& on_token = {}) = 0;
  // Lets products and attention choose their algorithms by timing during the next calls (CUDA).
  virtual void set_may_measure(bool may_measure) = 0;
  // Seconds of a call over `prompts` until every sequence has its first token.
  virtual double first_token_seconds(const std::vector<Prompt>& prompts,
                                     const GenerateOptions& options) = 0;
  // Prefill and the parts of one turn, run one after the other.
  virtual std::vector<parallel::PartTime> time_parts(const std::vector<Prompt>& prompts,
                                                     const GenerateOptions& options) = 0;
  virtual const MemoryPlan& memory() const = 0;

  // `parameters`: the flat space of `table`; `table` must outlive the generator, and so must
  // `parameters` on the CPU. precision: fp32, or bf16 on CUDA. Error{device} where the memory is
  // not there.
  static std::unique_ptr<Generator> make(const ModelConfig& config,
                                         const model::ParameterTable& table,
                                         const float* parameters, const Limits& limits,
                                         Device device = Device::cpu,
                                         Precision precision = Precision::fp32);
  // What make() would take, without taking it.
  static MemoryPlan plan(const ModelConfig& config, const model::ParameterTable& table,
                         const Limits& limits, Device device, Precision precision);
  // The most sequences whose plan stays within `bytes`; 0 = not even one. Limits otherwise as
  // given.
  static std::int64_t largest_batch(const ModelConfig& config, const model::ParameterTable& table,
                                    Limits limits, Device device, Precision precision,
                                    std::int64_t bytes);
};

}  // namespace tessera::infer
