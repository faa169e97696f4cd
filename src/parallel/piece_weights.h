// What pieces of a model cost beside each other, for cutting it into stages.
#pragma once

#include <vector>

#include "config/config.h"
#include "core/device.h"

namespace tessera::parallel {

// Seconds of a micro-batch's forward and backward, a piece, on the default machine of `device`
// (parallel/machine.h): the same numbers on every rank, whatever it runs on. precision: auto counts
// as what it is on the device.
std::vector<double> piece_weights(const Config& config, Device device);

}  // namespace tessera::parallel
