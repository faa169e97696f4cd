// The next token of every row, chosen from its logits, and the books of a batch that is continued.
//
// Row r has logits [vocab] at logits + r * stride. Of the ids that `allowed` names (null: all):
//   temperature 0: the largest logit, the smallest id among equals;
//   else w_i = exp((z_i - max z) / temperature), over the top_k likeliest (0: all; of equals the
//   smaller ids), cut to the fewest likeliest whose share reaches top_p (at least one); then the
//   first id, in order of ids, at which the sum of w exceeds u sum w, where u is
//   CounterRandom(seed, prompts[r]).uniform(produced[r]): the choice depends on nothing beside.
// w is counted in whole units (kernels/sample_weight.h), so that sums are exact in any order and
// the choice is the same on every backend. A NaN counts as -inf.
//
// forced[r * forced_stride] >= 0 takes that token instead. Then, for token t of row r:
//   tokens[r * token_stride] = t;  positions[r] += 1 (where given);
//   unless forced or ended: outputs[r, produced[r]++] = t;  ended[r] = t == end_id or
//   produced[r] == limit.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct Sample {
  std::int64_t rows = 0, vocab = 0, stride = 0;
  const T* logits = nullptr;
  const std::uint8_t* allowed = nullptr;  // [vocab] or null; not all of them 0
  double temperature = 0;
  std::int64_t top_k = 0;
  double top_p = 1;
  std::uint64_t seed = 1;
  const std::int64_t* prompts = nullptr;  // [rows]
  const std::int32_t* forced = nullptr;   // or null
  std::int64_t forced_stride = 1;
  std::int32_t* tokens = nullptr;
  std::int64_t token_stride = 1;
  std::int32_t* produced = nullptr;  // [rows]
  std::int32_t* outputs = nullptr;   // [rows, output_stride]
  std::int64_t output_stride = 0;
  std::int64_t limit = 0;
  std::int32_t end_id = -1;
  std::uint8_t* ended = nullptr;      // [rows]
  std::int32_t* positions = nullptr;  // [rows] or null
};

namespace cpu {
template <typename T>
void sample(const Sample<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void sample(const Queue& queue, const Sample<T>& args);
}  // namespace cuda

template <typename T>
void sample(const Queue& queue, const Sample<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::sample(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::sample(args);
  refuse(queue, "sample");
}

}  // namespace tessera::kernels
