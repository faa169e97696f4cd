// The map of ranks (pure): world = pipeline stages x data replicas.
#pragma once

#include <cstdint>

#include "config/config.h"

namespace tessera::comm {

struct Topology {
  std::int64_t rank = 0, world = 1;
  std::int64_t stages = 1, replicas = 1;
  std::int64_t stage = 0, replica = 0;
};

// Places `rank` of `world`. pipeline_first: neighbouring ranks are stages of one replica;
// data_first: neighbouring ranks are replicas of one stage. Error{config} when world is not
// parallel.pipeline x parallel.data, or global_batch is not a multiple of micro_batch x replicas.
Topology make_topology(const Config& config, std::int64_t rank, std::int64_t world);

}  // namespace tessera::comm
