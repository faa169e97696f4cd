#include "parallel/piece_weights.h"

#include "parallel/piece_costs.h"

namespace tessera::parallel {

std::vector<double> piece_weights(const Config& config, Device device) {
  Config resolved = config;
  if (resolved.precision == Precision::automatic)
    resolved.precision = device == Device::cuda ? Precision::bf16 : Precision::fp32;
  const PieceCosts costs(resolved, device, default_machine(device, 1).rates);
  std::vector<double> weights;
  for (const PieceCost& piece : costs.micro_batch(config.train.micro_batch))
    weights.push_back(piece.forward + piece.backward);
  return weights;
}

}  // namespace tessera::parallel
