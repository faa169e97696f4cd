// What pieces of a model cost beside each other, for cutting it into stages.
#pragma once

#include <vector>

#include "config/config.h"

namespace tessera::parallel {

// A weight a piece (any unit, > 0).
std::vector<double> piece_weights(const ModelConfig& config);

}  // namespace tessera::parallel
