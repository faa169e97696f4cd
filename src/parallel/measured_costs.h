// Piece times measured by `tessera bench train --pieces FILE`, kept as JSON, and what they say
// about computed costs.
//
//   {"format": "tessera-piece-times-1", "device": "...", "config": "YAML of the measured run",
//    "pieces": [{"piece": "embedding", "forward_ms": 0.1, "backward_ms": 0.2}, ...],
//    "clear_gradients_ms": 0.1, "gradient_norms_ms": 0.1, "adamw_ms": 1.0}
#pragma once

#include <string>
#include <vector>

#include "parallel/engine.h"
#include "parallel/piece_costs.h"

namespace tessera::parallel {

struct PieceTimes {
  std::string device;             // "cpu" or a GPU's name
  Config config;                  // of the measured run, resolved
  std::vector<PieceCost> pieces;  // seconds of a micro-batch of config.train.micro_batch
  OptimizerCost optimizer;        // seconds, all parameters
};

// From what Engine::time_parts() says on one rank that holds the whole model.
PieceTimes piece_times(const Config& config, const std::string& device,
                       const std::vector<PartTime>& parts);

std::string to_json(const PieceTimes& times);
// `what` names the file. Error{data} where it is not such a file or a time is not positive.
PieceTimes piece_times_from_json(const std::string& text, const std::string& what);

// Measured over computed, a piece. Error{config} naming the first key where `config` is another
// model, precision or recomputation than was measured. `what` names the file.
CostRatios cost_ratios(const PieceTimes& times, const Config& config, Device device,
                       const MachineRates& rates, const std::string& what);

}  // namespace tessera::parallel
