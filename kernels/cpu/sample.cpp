#include "kernels/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "kernels/cpu/parallel.h"
#include "kernels/sample_weight.h"

namespace tessera::kernels::cpu {
namespace {

struct Candidate {
  double value;
  std::int32_t id;
  std::uint64_t weight = 0;
};

bool likelier(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// Gives the candidates their weights; the sum of these.
std::uint64_t weigh(std::vector<Candidate>& candidates, double temperature) {
  double most = -std::numeric_limits<double>::infinity();
  for (const Candidate& c : candidates) most = std::max(most, c.value);
  const float scale = sample_scale(temperature);
  std::uint64_t sum = 0;
  for (Candidate& c : candidates)
    sum += c.weight = sample_weight(static_cast<float>(c.value), static_cast<float>(most), scale);
  return sum;
}

template <typename T>
std::int32_t choose(const Sample<T>& a, std::int64_t row, std::vector<Candidate>& candidates) {
  const T* logits = a.logits + row * a.stride;
  candidates.clear();
  for (std::int64_t id = 0; id < a.vocab; ++id)
    if (!a.allowed || a.allowed[id]) {
      const auto value = static_cast<double>(logits[id]);
      candidates.push_back({std::isnan(value) ? -std::numeric_limits<double>::infinity() : value,
                            static_cast<std::int32_t>(id), 0});
    }
  TESSERA_CHECK(!candidates.empty());
  if (a.temperature <= 0)
    return std::min_element(candidates.begin(), candidates.end(), likelier)->id;

  const auto count = static_cast<std::int64_t>(candidates.size());
  const std::int64_t keep = a.top_k > 0 ? std::min(a.top_k, count) : count;
  // Sorting everything is only needed where the order decides who stays.
  if (a.top_p < 1)
    std::sort(candidates.begin(), candidates.end(), likelier);
  else if (keep < count)
    std::nth_element(candidates.begin(), candidates.begin() + keep, candidates.end(), likelier);
  candidates.resize(static_cast<std::size_t>(keep));
  std::uint64_t sum = weigh(candidates, a.temperature);
  if (a.top_p < 1) {
    const auto enough = static_cast<std::uint64_t>(std::ceil(a.top_p * static_cast<double>(sum)));
    std::uint64_t reached = 0;
    std::size_t kept = 0;
    while (kept < candidates.size() && (kept == 0 || reached < enough))
      reached += candidates[kept++].weight;
    candidates.resize(kept);
    sum = reached;
  }
  // The order must not depend on how nth_element left it.
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& x, const Candidate& y) { return x.id < y.id; });
  const CounterRandom random(a.seed, static_cast<std::uint64_t>(a.prompts[row]));
  const double u = random.uniform(static_cast<std::uint64_t>(a.produced[row]));
  const std::uint64_t target =
      std::min(sum - 1, static_cast<std::uint64_t>(u * static_cast<double>(sum)));
  std::uint64_t reached = 0;
  for (const Candidate& c : candidates) {
    reached += c.weight;
    if (reached > target) return c.id;
  }
  return candidates.back().id;
}

}  // namespace

template <typename T>
void sample(const Sample<T>& a) {
  parallel_ranges(a.rows, 1, kSerialElements / (a.vocab + 1) + 2,
                  [&](std::int64_t begin, std::int64_t end) {
                    std::vector<Candidate> candidates;
                    for (std::int64_t r = begin; r < end; ++r) {
                      const std::int32_t given = a.forced ? a.forced[r * a.forced_stride] : -1;
                      const std::int32_t token = given >= 0 ? given : choose(a, r, candidates);
                      a.tokens[r * a.token_stride] = token;
                      if (a.positions) ++a.positions[r];
                      if (given >= 0 || a.ended[r]) continue;
                      a.outputs[r * a.output_stride + a.produced[r]++] = token;
                      if (token == a.end_id || a.produced[r] >= a.limit) a.ended[r] = 1;
                    }
                  });
}

template void sample(const Sample<float>&);
template void sample(const Sample<double>&);

}  // namespace tessera::kernels::cpu
