#include "model/flops.h"

#include "model/architecture.h"

namespace tessera::model {

double training_flops_per_token(const ModelConfig& config) {
  ParameterTable table;
  double sum = 0;
  for (const auto& piece : make_pieces<float>(config, table)) sum += piece->multiply_adds();
  return 6 * sum / static_cast<double>(config.context);
}

}  // namespace tessera::model
