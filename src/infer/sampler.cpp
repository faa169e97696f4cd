#include "infer/sampler.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"

namespace tessera::infer {

std::int32_t Sampler::choose(const float* logits, std::int64_t vocab, std::int64_t prompt,
                             std::int64_t position) {
  candidates_.clear();
  for (std::int64_t id = 0; id < vocab; ++id)
    if (allowed(id))
      candidates_.push_back({static_cast<double>(logits[id]), static_cast<std::int32_t>(id)});
  TESSERA_CHECK(!candidates_.empty());
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
  };
  if (options_.temperature <= 0)
    return std::min_element(candidates_.begin(), candidates_.end(), likelier)->id;

  const auto count = static_cast<std::int64_t>(candidates_.size());
  const std::int64_t keep = options_.top_k > 0 ? std::min(options_.top_k, count) : count;
  // Sorting everything is only needed where the order decides who stays.
  if (options_.top_p < 1)
    std::sort(candidates_.begin(), candidates_.end(), likelier);
  else if (keep < count)
    std::nth_element(candidates_.begin(), candidates_.begin() + keep, candidates_.end(), likelier);
  candidates_.resize(static_cast<std::size_t>(keep));

  double most = candidates_[0].value;
  for (const Candidate& c : candidates_) most = std::max(most, c.value);
  double sum = 0;
  for (Candidate& c : candidates_)
    sum += c.value = std::exp((c.value - most) / options_.temperature);
  if (options_.top_p < 1) {
    double reached = 0;
    std::size_t kept = 0;
    while (kept < candidates_.size() && (kept == 0 || reached < options_.top_p * sum))
      reached += candidates_[kept++].value;
    candidates_.resize(kept);
    sum = reached;
  }
  // The order must not depend on how nth_element left it.
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  const CounterRandom random(options_.seed, static_cast<std::uint64_t>(prompt));
  double left = random.uniform(static_cast<std::uint64_t>(position)) * sum;
  for (const Candidate& c : candidates_) {
    left -= c.value;
    if (left < 0) return c.id;
  }
  return candidates_.back().id;
}

}  // namespace tessera::infer
