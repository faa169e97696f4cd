// An engine with its own memory on a device, for tests of whole models.
#pragma once

#include <memory>
#include <vector>

#include "comm/topology.h"
#include "parallel/rank_engine.h"

namespace tessera::testing {

template <typename T>
class OwnedEngine {
 public:
  // config: model, train.micro_batch, train.global_batch, optimizer.
  OwnedEngine(Config config, Device device, const parallel::EngineOptions& options = {})
      : ranks_(comm::make_single()),
        engine(with_precision(config), device, comm::make_topology(config, 0, 1), *ranks_,
               options) {
    MemoryPlan plan;
    engine.plan(plan);
    arena_ = std::make_unique<Arena>(plan, device);
    engine.bind(*arena_);
  }

  // One step on the global batch [global_batch, context] of ids; the mean loss before it.
  parallel::Agreement step(const Config& config, const std::vector<std::int32_t>& ids,
                           std::int64_t number, double lr, double clip = 1.0) {
    const parallel::Agreement agreement = accumulate(config, ids);
    const double scale = std::min(1.0, clip / (agreement.gradient_norm + 1e-6));
    engine.update(number, lr, scale);
    return agreement;
  }
  parallel::Agreement accumulate(const Config& config, const std::vector<std::int32_t>& ids) {
    const std::int64_t context = config.model.context, micro = config.train.micro_batch;
    const auto sequences = static_cast<std::int64_t>(ids.size()) / context;
    engine.begin_step(1.0 / static_cast<double>(sequences * model::targets_a_sample(config.model)));
    for (std::int64_t s = 0; s < sequences; s += micro) {
      const std::int32_t* at = ids.data() + s * context;
      engine.accumulate({std::min(micro, sequences - s), at, at});
    }
    return engine.agree({});
  }

 private:
  static Config with_precision(Config config) {
    config.precision = std::is_same_v<T, kernels::bf16> ? Precision::bf16 : Precision::fp32;
    return config;
  }
  std::unique_ptr<comm::Communicator> ranks_;
  std::unique_ptr<Arena> arena_;

 public:
  parallel::RankEngine<T> engine;
};

}  // namespace tessera::testing
