// Floating-point operations a token, by the project's definition (docs/numbers.md, "FLOPs a
// token"): 6 x the multiply-adds of every matrix product on the path (layers, the block embedder's
// projection, expansion, head; no look-ups), causal attention counted at half.
#pragma once

#include "config/config.h"

namespace tessera::model {

// Training (forward and backward) FLOPs a token of the context.
double training_flops_per_token(const ModelConfig& config);

// Dense bf16 rate of one H100 SXM, FLOP/s: what every MFU is a fraction of (docs/numbers.md).
inline constexpr double kDenseBf16Flops = 989e12;

}  // namespace tessera::model
