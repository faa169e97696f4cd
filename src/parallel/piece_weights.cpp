#include "parallel/piece_weights.h"

#include "model/architecture.h"

namespace tessera::parallel {

std::vector<double> piece_weights(const ModelConfig& config) {
  model::ParameterTable table;
  std::vector<double> weights;
  // Multiply-adds of a sequence, and a look-up's or norm's memory traffic as if it were some.
  for (const auto& piece : model::make_pieces<float>(config, table))
    weights.push_back(piece->multiply_adds() +
                      100.0 * static_cast<double>(piece->output(1).count()) + 1.0);
  return weights;
}

}  // namespace tessera::parallel
