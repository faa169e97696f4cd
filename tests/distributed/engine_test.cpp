// The data-parallel engine under mpirun: every rank count and ZeRO setting gives what one rank
// alone gives, and all ranks agree.
#include <cmath>
#include <functional>
#include <limits>

#include <gtest/gtest.h>
#include <mpi.h>

#include "comm/mpi_communicator.h"
#include "model/initialise.h"
#include "parallel/agreements.h"
#include "parallel/rank_engine.h"
#include "support/late_transport.h"
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

// Everything that reads or writes parameters waits for those on their way: each of these, right
// after an update whose gathers come late, leaves none behind and finds what one without delays
// finds.
TEST_P(Ranks, WhatReadsParametersWaitsForThem) {
  if (world_->size() == 1) GTEST_SKIP() << "one rank gathers nothing";
  Config config = config_of(GetParam(), 1, 2);
  config.eval.tasks = {"lambada"};  // room for scores
  const comm::Topology topology = comm::make_topology(config, world_->rank(), world_->size());
  const auto ids = testing::random_tokens(2 * config.model.context, config.model.vocab, 5);
  const model::MicroBatch batch{2, ids.data(), ids.data()};
  using Engine = parallel::RankEngine<float>;
  const auto with_update = [&](const parallel::EngineOptions& options, const auto& reader) {
    Engine engine(config, Device::cpu, topology, *world_, options);
    MemoryPlan plan;
    engine.plan(plan);
    const Arena arena(plan);
    engine.bind(arena);
    engine.initialise(11);
    engine.begin_step(0.01);
    for (std::int64_t m = 0; m < kGlobalBatch / (2 * world_->size()); ++m) engine.accumulate(batch);
    engine.reduce_gradients();
    engine.agree({});
    engine.update(1, 1e-2, 1);
    return reader(engine);
  };
  const std::vector<float> value(1, 0.25f);
  const std::vector<std::pair<std::string, std::function<std::vector<double>(Engine&)>>> readers = {
      {"loss", [&](Engine& e) { return std::vector{e.loss(batch)}; }},
      {"score",
       [&](Engine& e) {
         const model::HostScores scores = e.score(batch);
         return std::vector<double>(scores.losses.begin(), scores.losses.end());
       }},
      {"logits",
       [&](Engine& e) {
         const std::vector<float> logits = e.logits(batch);
         return std::vector<double>(logits.begin(), logits.end());
       }},
      {"parameters",
       [&](Engine& e) {
         const std::vector<float> parameters = e.parameters();
         return std::vector<double>(parameters.begin(), parameters.end());
       }},
      {"hashes",
       [&](Engine& e) {
         const std::vector<std::uint64_t> hashes = e.parameter_hashes();
         return std::vector<double>(hashes.begin(), hashes.end());
       }},
      {"snapshot",
       [&](Engine& e) {
         std::vector<double> values;
         const std::vector<parallel::SegmentState> states = e.snapshot();
         for (std::size_t s = 0; s < states.size(); ++s)
           values.insert(values.end(), states[s].parameters,
                         states[s].parameters + e.written()[s].count());
         return values;
       }},
      {"restore",
       [&](Engine& e) {
         e.restore(parallel::State::parameter, 3, 1, value.data());
         return std::vector<double>{};
       }},
      {"synchronize", [&](Engine& e) { return e.synchronize(), std::vector<double>{}; }},
      {"parts' times",
       [&](Engine& e) {
         e.time_parts(batch);
         const std::vector<float> gradients = e.gradients();
         return std::vector<double>(gradients.begin(), gradients.end());
       }},
      {"another update", [&](Engine& e) {
         e.update(2, 1e-2, 1);
         const std::vector<float> parameters = e.parameters();
         return std::vector<double>(parameters.begin(), parameters.end());
       }}};
  parallel::EngineOptions prompt;
  prompt.bucket_elements = 5000;
  for (const auto& [name, reader] : readers) {
    SCOPED_TRACE(name);
    const auto count = std::make_shared<testing::GatherCount>();
    const auto expected = with_update(prompt, reader);
    const auto found = with_update(testing::with_late_gathers(prompt, Device::cpu, count), reader);
    EXPECT_EQ(found, expected);
    EXPECT_EQ(count->pending, 0);
    EXPECT_GE(count->asked, 3);
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
