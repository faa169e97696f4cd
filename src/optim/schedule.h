// Learning rates as a pure function of the optimizer step n = 1, 2, ..., steps.
//
// Warm-up: lr n / W for n <= W. Then, with r = min_lr_ratio:
//   cosine:   lr (r + (1 - r) (1 + cos(pi (n - W) / (steps - W))) / 2): lr at n = W, r lr at n =
//   steps constant: lr wsd:      lr until the last `decay_steps` steps, then linearly down to r lr
//   at n = steps
#pragma once

#include <cstdint>

#include "config/config.h"

namespace tessera::optim {

double learning_rate(const OptimizerConfig& config, std::int64_t steps, std::int64_t step);

}  // namespace tessera::optim
