#include "comm/topology.h"

#include <algorithm>
#include <map>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"

namespace tessera::comm {
namespace {

// The largest divisor of `value` that is at most `most`.
std::int64_t divisor_below(std::int64_t value, std::int64_t most) {
  for (std::int64_t d = std::min(value, most); d > 1; --d)
    if (value % d == 0) return d;
  return 1;
}

[[noreturn]] void refuse(const std::string& problem) {
  throw Error(Category::config, problem);
}

}  // namespace

Topology make_topology(const Config& config, std::int64_t rank, std::int64_t world) {
  TESSERA_CHECK(world >= 1 && rank >= 0 && rank < world);
  const std::int64_t stages = config.parallel.pipeline;
  if (world % stages != 0)
    refuse(
        fmt::format("parallel.pipeline = {} does not divide the {} ranks started; "
                    "parallel.pipeline: {} does",
                    stages, world, divisor_below(world, stages)));
  if (stages == 1 && config.parallel.virtual_stages > 1)
    refuse(
        fmt::format("parallel.virtual_stages = {} needs parallel.pipeline of at least 2; "
                    "with parallel.pipeline: 1 set parallel.virtual_stages: 1",
                    config.parallel.virtual_stages));
  const std::int64_t replicas = world / stages;
  if (config.parallel.data != 0 && config.parallel.data != replicas)
    refuse(
        fmt::format("parallel.data = {} with parallel.pipeline = {} needs {} ranks, but {} "
                    "were started (leave parallel.data out to take what is there)",
                    config.parallel.data, stages, stages * config.parallel.data, world));
  const std::int64_t batch = config.train.global_batch, micro = config.train.micro_batch;
  if (batch % replicas != 0)
    refuse(
        fmt::format("train.global_batch = {} cannot be dealt to {} replicas evenly; "
                    "train.global_batch: {} could",
                    batch, replicas, (batch + replicas - 1) / replicas * replicas));
  if (batch / replicas % micro != 0)
    refuse(fmt::format(
        "train.global_batch = {} is not a multiple of train.micro_batch x "
        "replicas = {} x {}; train.micro_batch: {} divides the {} sequences of a "
        "replica",
        batch, micro, replicas, divisor_below(batch / replicas, micro), batch / replicas));
  Topology t;
  t.rank = rank;
  t.world = world;
  t.stages = stages;
  t.replicas = replicas;
  t.virtual_stages = config.parallel.virtual_stages;
  t.order = config.parallel.order;
  t.stage = t.order == RankOrder::pipeline_first ? rank % stages : rank / replicas;
  t.replica = t.order == RankOrder::pipeline_first ? rank / stages : rank % replicas;
  return t;
}

void check_pieces(const Topology& topology, std::int64_t pieces) {
  const std::int64_t runs = topology.stages * topology.virtual_stages;
  if (pieces >= runs) return;
  refuse(
      fmt::format("parallel.pipeline = {} x parallel.virtual_stages = {} asks for {} runs of "
                  "layers, but the model has {} pieces (layers, embeddings, norm and head); "
                  "lower one of them",
                  topology.stages, topology.virtual_stages, runs, pieces));
}

Placement replica_placement(const Topology& topology, std::int64_t stage,
                            std::int64_t ranks_a_node) {
  TESSERA_CHECK(ranks_a_node >= 1);
  std::map<std::int64_t, std::int64_t> nodes;  // ranks of the group on each
  for (std::int64_t r = 0; r < topology.replicas; ++r)
    ++nodes[topology.rank_of(stage, r) / ranks_a_node];
  Placement placement{topology.replicas, static_cast<std::int64_t>(nodes.size()),
                      topology.replicas};
  for (const auto& [node, ranks] : nodes) placement.fewest = std::min(placement.fewest, ranks);
  return placement;
}

bool crosses_nodes(const Topology& topology, std::int64_t from_stage, std::int64_t to_stage,
                   std::int64_t ranks_a_node) {
  TESSERA_CHECK(ranks_a_node >= 1);
  for (std::int64_t r = 0; r < topology.replicas; ++r)
    if (topology.rank_of(from_stage, r) / ranks_a_node !=
        topology.rank_of(to_stage, r) / ranks_a_node)
      return true;
  return false;
}

}  // namespace tessera::comm
