// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <vector>

namespace tessera::infer {

struct SamplingOptions {
  double temperature = 0;  // 0 = greedy (smallest id among equals)
  std::int64_t top_k = 0;  // keep the k likeliest; 0 = all
  double top_p = 1;        // keep the smallest set whose probability reaches p
  std::uint64_t seed = 1;
};

class Sampler {
 public:
  // `allowed`: ids that may be chosen, by index; shorter than the vocabulary means the rest may
  // not.
  Sampler(const SamplingOptions& options, std::vector<bool> allowed)
      : options_(options), allowed_(std::move(allowed)) {}

  // The token at `position` of prompt `prompt`, from logits [vocab]. The random number depends on
  // (seed, prompt, position) alone, never on what else is generated beside it.
  std::int32_t choose(const float* logits, std::int64_t vocab, std::int64_t prompt,
                      std::int64_t position);

 private:
  bool allowed(std::int64_t id) const {
    return allowed_.empty() || (static_cast<std::size_t>(id) < allowed_.size() &&
                                allowed_[static_cast<std::size_t>(id)]);
  }

  SamplingOptions options_;
  std::vector<bool> allowed_;
  struct Candidate {
    double value;
    std::int32_t id;
  };
  std::vector<Candidate> candidates_;
};

}  // namespace tessera::infer
