// The data-parallel engine under mpirun: every rank count and ZeRO setting gives what one rank
// alone gives, and all ranks agree.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <mpi.h>

#include "comm/mpi_communicator.h"
#include "model/initialise.h"
#include "parallel/agreements.h"
#include "parallel/rank_engine.h"
#include "support/small_models.h"

namespace tessera {
namespace {

constexpr std::int64_t kGlobalBatch = 8;

Config config_of(const ModelConfig& model, std::int64_t zero, std::int64_t micro_batch) {
  Config config;
  config.model = model;
  config.train.global_batch = kGlobalBatch;
  config.train.micro_batch = micro_batch;
  config.parallel.zero = zero;
  config.optimizer.lr = 1e-2;
  return config;
}

struct Result {
  std::vector<double> losses, norms;
  std::vector<float> parameters;
};

// A few optimizer steps of the group `ranks` on a fixed stream of random tokens.
Result run(const Config& config, comm::Communicator& ranks, int steps, bool poison = false) {
  const comm::Topology topology = comm::make_topology(config, ranks.rank(), ranks.size());
  parallel::RankEngine<float> engine(config, Device::cpu, topology, ranks, {});
  MemoryPlan plan;
  engine.plan(plan);
  const Arena arena(plan);
  engine.bind(arena);
  engine.initialise(11);
  const std::int64_t context = config.model.context, micro = config.train.micro_batch;
  const std::int64_t share = kGlobalBatch / ranks.size();
  const double targets = static_cast<double>(kGlobalBatch * model::targets_a_sample(config.model));
  Result result;
  for (int step = 0; step < steps; ++step) {
    const auto ids = testing::random_tokens(kGlobalBatch * context, config.model.vocab,
                                            static_cast<std::uint64_t>(step));
    engine.begin_step(1 / targets);
    if (poison && ranks.rank() == ranks.size() - 1)
      engine.device_gradients()[3] = std::numeric_limits<float>::quiet_NaN();
    for (std::int64_t m = 0; m < share; m += micro) {
      const std::int32_t* at = ids.data() + (ranks.rank() * share + m) * context;
      engine.accumulate({micro, at, at});
    }
    engine.reduce_gradients();
    const parallel::Agreement agreement = engine.agree({});
    EXPECT_EQ(agreement.finite, !poison);
    EXPECT_EQ(agreement.bad_tensor, poison ? 0 : -1);
    result.losses.push_back(agreement.loss_sum / targets);
    result.norms.push_back(agreement.gradient_norm);
    if (agreement.finite)
      engine.update(step + 1, 1e-2, std::min(1.0, 1 / (agreement.gradient_norm + 1e-6)));
  }
  result.parameters = engine.parameters();
  return result;
}

void expect_close(const Result& a, const Result& b) {
  ASSERT_EQ(a.losses.size(), b.losses.size());
  for (std::size_t i = 0; i < a.losses.size(); ++i) {
    EXPECT_NEAR(a.losses[i], b.losses[i], 1e-6 * b.losses[i]) << "step " << i;
    EXPECT_NEAR(a.norms[i], b.norms[i], 1e-5 * b.norms[i]) << "step " << i;
  }
}

class Ranks : public ::testing::TestWithParam<ModelConfig> {
 protected:
  std::unique_ptr<comm::Communicator> world_ = comm::make_mpi(MPI_COMM_WORLD);
};

TEST_P(Ranks, EqualOneRankAlone) {
  const auto single = comm::make_single();
  const Result alone = run(config_of(GetParam(), 1, 2), *single, 6);
  for (const std::int64_t zero : {0, 1})
    expect_close(run(config_of(GetParam(), zero, 2), *world_, 6), alone);
}

TEST_P(Ranks, AccumulationDoesNotMatter) {
  expect_close(run(config_of(GetParam(), 1, 1), *world_, 6),
               run(config_of(GetParam(), 1, 2), *world_, 6));
}

TEST_P(Ranks, RepeatBitForBitAndHoldEqualParameters) {
  const Result once = run(config_of(GetParam(), 1, 2), *world_, 4);
  const Result again = run(config_of(GetParam(), 1, 2), *world_, 4);
  EXPECT_EQ(once.losses, again.losses);
  EXPECT_EQ(once.parameters, again.parameters);
  std::vector<float> first = once.parameters;
  world_->broadcast(first.data(), static_cast<std::int64_t>(first.size() * sizeof(float)));
  EXPECT_EQ(first, once.parameters);
}

TEST_P(Ranks, AgreeToSkipWhenOneRankHasANan) {
  const Result result = run(config_of(GetParam(), 1, 2), *world_, 1, true);
  Config config = config_of(GetParam(), 1, 2);
  model::ParameterTable table = model::parameter_table(config.model);
  std::vector<float> start(static_cast<std::size_t>(table.flat_size()));
  model::initialise(table, 11, start.data());
  EXPECT_EQ(result.parameters, start);
}

TEST_P(Ranks, DriftedReplicasAreNoticedByAll) {
  const Config config = config_of(GetParam(), 1, 1);
  const comm::Topology topology = comm::make_topology(config, world_->rank(), world_->size());
  parallel::RankEngine<float> engine(config, Device::cpu, topology, *world_, {});
  MemoryPlan plan;
  engine.plan(plan);
  const Arena arena(plan);
  engine.bind(arena);
  engine.initialise(11);
  EXPECT_NO_THROW(parallel::require_equal_replicas(engine, topology, *world_, 5));
  if (world_->size() == 1) return;
  const model::Parameter& third = engine.table()[2];
  const float changed = 0.25f;
  if (world_->rank() == world_->size() - 1)
    engine.restore(parallel::State::parameter, third.offset + 1, 1, &changed);
  try {
    parallel::require_equal_replicas(engine, topology, *world_, 5);
    ADD_FAILURE() << "a changed parameter went unnoticed";
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::disagreement);
    const std::string text = error.what();
    EXPECT_NE(text.find("step 5"), std::string::npos) << text;
    EXPECT_NE(text.find(third.name + " differs between ranks 0 and " +
                        std::to_string(world_->size() - 1)),
              std::string::npos)
        << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Ranks,
                         ::testing::Values(testing::small_vanilla(), testing::small_block(4, 2)),
                         [](const auto& c) {
                           return std::string(c.param.kind == ModelKind::vanilla ? "vanilla"
                                                                                 : "block");
                         });

TEST(Communicator, Collectives) {
  const auto world = comm::make_mpi(MPI_COMM_WORLD);
  const std::int64_t n = world->size(), me = world->rank();
  double sum = 1;
  world->all_reduce(&sum, 1);
  EXPECT_EQ(sum, static_cast<double>(n));
  const auto texts = world->gather_text("rank " + std::to_string(me));
  if (me == 0) {
    ASSERT_EQ(static_cast<std::int64_t>(texts.size()), n);
    EXPECT_EQ(texts.back(), "rank " + std::to_string(n - 1));
  }
  EXPECT_EQ(comm::broadcast_text(*world, me == 0 ? "hello" : ""), "hello");
}

TEST(Topology, RefusesWhatDoesNotDivide) {
  Config config;
  config.train.global_batch = 8;
  config.train.micro_batch = 2;
  EXPECT_EQ(comm::make_topology(config, 3, 4).replica, 3);
  EXPECT_THROW(comm::make_topology(config, 0, 3), Error);  // 8 sequences over 3 ranks of 2
  config.parallel.data = 2;
  EXPECT_THROW(comm::make_topology(config, 0, 4), Error);
  config.parallel.pipeline = 2;
  const auto t = comm::make_topology(config, 3, 4);
  EXPECT_EQ(t.stage, 1);
  EXPECT_EQ(t.replica, 1);
  config.parallel.order = RankOrder::data_first;
  EXPECT_EQ(comm::make_topology(config, 1, 4).replica, 1);
  EXPECT_EQ(comm::make_topology(config, 1, 4).stage, 0);
}

}  // namespace
}  // namespace tessera
