// How fast generation could be at the least: every matrix product at a given rate or its weights at
// a given bandwidth, whichever is slower, and every cached key and value read once a step at that
// bandwidth. Norms, GELU, sampling and launches cost nothing (docs/numbers.md, "Roofline of
// generation").
#pragma once

#include <cstdint>

#include "config/config.h"

namespace tessera::infer {

struct Roofline {
  double prefill_seconds = 0, decode_seconds = 0;  // of the whole batch
  double flops = 0, cache_bytes = 0;               // of the whole call
  double seconds() const { return prefill_seconds + decode_seconds; }
};

// `sequences` prompts of `prompt` tokens continued by `tokens`. `flops_rate` FLOP/s of products,
// `bandwidth` bytes/s read, `element` bytes of a weight and a cached number.
Roofline roofline(const ModelConfig& config, std::int64_t sequences, std::int64_t prompt,
                  std::int64_t tokens, double flops_rate, double bandwidth, double element);

}  // namespace tessera::infer
