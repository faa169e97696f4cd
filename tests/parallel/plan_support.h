// Configurations and layouts for tests of predictions.
#pragma once

#include <string>

#include "config/load.h"
#include "parallel/prediction.h"

namespace tessera::testing {

// A file of configs/ as `tessera plan` on CUDA would resolve it.
inline Config gpu_config(const std::string& file, const std::vector<std::string>& overrides = {}) {
  Config config = load_config(std::string(TESSERA_SOURCE_DIR) + "/configs/" + file, overrides);
  config.precision = Precision::bf16;
  return config;
}

inline parallel::Prediction predict(const Config& config, std::int64_t ranks,
                                    const parallel::Machine& machine = parallel::h100_machine()) {
  return parallel::Predictor(config, Device::cuda, machine).predict(config, ranks);
}

}  // namespace tessera::testing
