// The map of ranks: every rank has one place, neighbours are where the order says, and sizes that
// do not fit are refused with one that does.
#include "comm/topology.h"

#include <set>

#include <gtest/gtest.h>

#include "core/error.h"

namespace tessera::comm {
namespace {

Config config_of(std::int64_t stages, std::int64_t replicas, RankOrder order) {
  Config config;
  config.parallel.pipeline = stages;
  config.parallel.data = replicas;
  config.parallel.order = order;
  config.train.micro_batch = 1;
  config.train.global_batch = replicas == 0 ? 64 : replicas;
  return config;
}

TEST(Topology, EveryRankHasOnePlace) {
  for (const auto order : {RankOrder::pipeline_first, RankOrder::data_first})
    for (const std::int64_t stages : {1, 2, 3, 8})
      for (const std::int64_t replicas : {1, 2, 5, 16}) {
        std::set<std::pair<std::int64_t, std::int64_t>> places;
        for (std::int64_t rank = 0; rank < stages * replicas; ++rank) {
          const Topology t =
              make_topology(config_of(stages, replicas, order), rank, stages * replicas);
          EXPECT_EQ(t.rank, rank);
          EXPECT_EQ(t.rank_of(t.stage, t.replica), rank);
          EXPECT_TRUE(t.stage >= 0 && t.stage < stages);
          EXPECT_TRUE(t.replica >= 0 && t.replica < replicas);
          places.insert({t.stage, t.replica});
          EXPECT_EQ(t.next_rank(), t.rank_of((t.stage + 1) % stages, t.replica));
          EXPECT_EQ(t.previous_rank(), t.rank_of((t.stage + stages - 1) % stages, t.replica));
        }
        EXPECT_EQ(std::int64_t(places.size()), stages * replicas);
      }
}

TEST(Topology, TheOrderSaysWhoAreNeighbours) {
  const Topology a = make_topology(config_of(4, 2, RankOrder::pipeline_first), 5, 8);
  EXPECT_EQ(a.stage, 1);
  EXPECT_EQ(a.replica, 1);
  EXPECT_EQ(a.next_rank(), 6);
  EXPECT_EQ(a.previous_rank(), 4);
  const Topology b = make_topology(config_of(4, 2, RankOrder::data_first), 5, 8);
  EXPECT_EQ(b.stage, 2);
  EXPECT_EQ(b.replica, 1);
  EXPECT_EQ(b.next_rank(), 7);
  // Round the ring.
  EXPECT_EQ(make_topology(config_of(4, 2, RankOrder::pipeline_first), 7, 8).next_rank(), 4);
}

TEST(Topology, ReplicasAreWhatIsLeft) {
  Config config = config_of(2, 0, RankOrder::pipeline_first);
  config.parallel.virtual_stages = 3;
  const Topology t = make_topology(config, 0, 8);
  EXPECT_EQ(t.replicas, 4);
  EXPECT_EQ(t.virtual_stages, 3);
}

std::string refusal(const Config& config, std::int64_t world) {
  try {
    make_topology(config, 0, world);
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::config);
    return error.what();
  }
  return "";
}

TEST(Topology, SizesThatDoNotFitAreRefusedWithOneThatDoes) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(refusal(config_of(5, 0, RankOrder::pipeline_first), 8), "parallel.pipeline: 4 does");
  has(refusal(config_of(2, 3, RankOrder::pipeline_first), 8), "needs 6 ranks, but 8");
  Config config = config_of(1, 0, RankOrder::pipeline_first);
  config.train.global_batch = 100;
  has(refusal(config, 8), "train.global_batch: 104 could");
  config.train.global_batch = 96;
  config.train.micro_batch = 8;
  const std::string text = refusal(config, 8);
  has(text, "train.micro_batch: 6 divides");
  config.train.micro_batch = 6;
  EXPECT_EQ(refusal(config, 8), "");
  config.parallel.virtual_stages = 2;
  config.parallel.schedule = PipelineSchedule::interleaved;
  has(refusal(config, 8), "needs parallel.pipeline of at least 2");
}

TEST(Topology, APieceForEveryVirtualStage) {
  Topology t;
  t.stages = 4;
  t.virtual_stages = 2;
  EXPECT_NO_THROW(check_pieces(t, 8));
  try {
    check_pieces(t, 7);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::config);
    EXPECT_NE(std::string(error.what()).find("parallel.virtual_stages = 2"), std::string::npos);
  }
}

TEST(Topology, PlacementsOnNodes) {
  // 4 stages x 4 replicas on nodes of 8: a replica's stages share a node, replicas lie on two.
  const Topology a = make_topology(config_of(4, 4, RankOrder::pipeline_first), 0, 16);
  const Placement p = replica_placement(a, 1, 8);
  EXPECT_EQ(p.ranks, 4);
  EXPECT_EQ(p.nodes, 2);
  EXPECT_EQ(p.fewest, 2);
  for (std::int64_t s = 0; s < 3; ++s) EXPECT_FALSE(crosses_nodes(a, s, s + 1, 8));
  EXPECT_EQ(replica_placement(a, 0, 16).nodes, 1);
  // The other way the replicas of a stage share a node, and every second boundary leaves it.
  const Topology b = make_topology(config_of(4, 4, RankOrder::data_first), 0, 16);
  EXPECT_EQ(replica_placement(b, 3, 8).nodes, 1);
  EXPECT_FALSE(crosses_nodes(b, 0, 1, 8));
  EXPECT_TRUE(crosses_nodes(b, 1, 2, 8));
  EXPECT_TRUE(crosses_nodes(b, 3, 0, 8));
  // 3 stages do not fit evenly on 8: some replica straddles, unevenly filled nodes count.
  const Topology c = make_topology(config_of(3, 4, RankOrder::pipeline_first), 0, 12);
  EXPECT_TRUE(crosses_nodes(c, 1, 2, 8));
  EXPECT_EQ(replica_placement(c, 0, 8).fewest, 1);
}

}  // namespace
}  // namespace tessera::comm
