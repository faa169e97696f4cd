// Floating-point operations a token, by the project's definition (docs/numbers.md, "FLOPs a
// token"): 6 x the multiply-adds of every matrix product on the path (layers, expansion, head; no
// look-ups), causal attention counted at half.
#pragma once

#include "config/config.h"

namespace tessera::model {

// Training (forward and backward) FLOPs a token of the context.
double training_flops_per_token(const ModelConfig& config);

}  // namespace tessera::model
