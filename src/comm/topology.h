// The map of ranks (pure): world = pipeline stages x data replicas, and which of them share a node.
//
// A rank computes one stage of one replica: `virtual_stages` chunks of the model's pieces.
// pipeline_first: the stages of a replica have neighbouring ranks, so that they share a node where
// they fit on one; data_first: the replicas of a stage do.
#pragma once

#include <cstdint>

#include "config/config.h"

namespace tessera::comm {

struct Topology {
  std::int64_t rank = 0, world = 1;
  std::int64_t stages = 1, replicas = 1, virtual_stages = 1;
  std::int64_t stage = 0, replica = 0;
  RankOrder order = RankOrder::pipeline_first;

  // The rank that computes a stage of a replica.
  std::int64_t rank_of(std::int64_t a_stage, std::int64_t a_replica) const {
    return order == RankOrder::pipeline_first ? a_replica * stages + a_stage
                                              : a_stage * replicas + a_replica;
  }
  // This rank's neighbours in its pipeline, round the ring that virtual stages go.
  std::int64_t next_rank() const { return rank_of((stage + 1) % stages, replica); }
  std::int64_t previous_rank() const { return rank_of((stage + stages - 1) % stages, replica); }
};

// Places `rank` of `world`. Error{config}, with a value that works, when world is not
// parallel.pipeline x parallel.data, or global_batch is not a multiple of micro_batch x replicas.
Topology make_topology(const Config& config, std::int64_t rank, std::int64_t world);

// Error{config} unless a model of `pieces` pieces has one for every virtual stage.
void check_pieces(const Topology& topology, std::int64_t pieces);

// How the ranks of one group lie on nodes of `ranks_a_node` neighbouring ranks each.
struct Placement {
  std::int64_t ranks = 1;
  std::int64_t nodes = 1;   // that hold any of them
  std::int64_t fewest = 1;  // ranks of the group on one of these nodes
};
// The replicas of a stage.
Placement replica_placement(const Topology& topology, std::int64_t stage,
                            std::int64_t ranks_a_node);
// Whether in any replica the neighbouring stages lie on different nodes.
bool crosses_nodes(const Topology& topology, std::int64_t from_stage, std::int64_t to_stage,
                   std::int64_t ranks_a_node);

}  // namespace tessera::comm
