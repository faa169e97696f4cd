// Seconds that pieces and the optimizer take on a machine: computed from their operations, or
// corrected by a measurement (parallel/measured_costs.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "parallel/machine.h"
#include "parallel/piece_work.h"

namespace tessera::parallel {

// Seconds, of one micro-batch.
struct PieceCost {
  std::string name;
  double forward = 0, backward = 0;
};

// Seconds of the parts of a step that are not a micro-batch's.
struct OptimizerCost {
  double clear = 0;   // gradients
  double norms = 0;   // squares of the gradients
  double update = 0;  // AdamW
};

double seconds(const Product& product, const MachineRates& rates, Precision precision);
double seconds(const Work& work, const MachineRates& rates, Precision precision);

// How much longer than computed something took when measured.
struct CostRatios {
  std::vector<PieceCost> pieces;  // forward and backward are ratios
  OptimizerCost optimizer;
};

// The costs of one model, precision and recomputation for any micro-batch.
class PieceCosts {
 public:
  // config.precision is resolved. `ratios`, where given, multiply what is computed.
  PieceCosts(const Config& config, Device device, const MachineRates& rates,
             std::optional<CostRatios> ratios = {});

  const MachineRates& rates() const { return rates_; }
  bool measured() const { return ratios_.has_value(); }
  // In the order of the model's list; computed once a size.
  const std::vector<PieceCost>& micro_batch(std::int64_t sequences) const;
  // `held`: elements of gradients that a rank holds; `owned`: those that it updates.
  OptimizerCost optimizer(std::int64_t held, std::int64_t owned) const;

 private:
  ModelConfig model_;
  Recompute recompute_;
  Precision precision_;
  Device device_;
  MachineRates rates_;
  std::optional<CostRatios> ratios_;
  mutable std::map<std::int64_t, std::vector<PieceCost>> known_;
};

}  // namespace tessera::parallel
