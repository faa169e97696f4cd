#include "comm/topology.h"

#include <spdlog/fmt/fmt.h>

#include "core/error.h"

namespace tessera::comm {

Topology make_topology(const Config& config, std::int64_t rank, std::int64_t world) {
  const std::int64_t stages = config.parallel.pipeline;
  if (world % stages != 0)
    throw Error(
        Category::config,
        fmt::format("parallel.pipeline = {} does not divide the {} ranks started", stages, world));
  const std::int64_t replicas = world / stages;
  if (config.parallel.data != 0 && config.parallel.data != replicas)
    throw Error(Category::config,
                fmt::format("parallel.data = {} with parallel.pipeline = {} needs {} ranks, but {} "
                            "were started (leave parallel.data out to take what is there)",
                            config.parallel.data, stages, stages * config.parallel.data, world));
  const std::int64_t a_step = config.train.micro_batch * replicas;
  if (config.train.global_batch % a_step != 0)
    throw Error(Category::config,
                fmt::format("train.global_batch = {} is not a multiple of train.micro_batch x "
                            "replicas = {} x {}; choose a micro_batch that divides {}",
                            config.train.global_batch, config.train.micro_batch, replicas,
                            fmt::format("{} / {}", config.train.global_batch, replicas)));
  Topology t{rank, world, stages, replicas, 0, 0};
  if (config.parallel.order == RankOrder::pipeline_first) {
    t.stage = rank % stages;
    t.replica = rank / stages;
  } else {
    t.stage = rank / replicas;
    t.replica = rank % replicas;
  }
  return t;
}

}  // namespace tessera::comm
