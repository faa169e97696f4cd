// One training run of a few steps on a fixed stream of random tokens, on any layout of ranks.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "optim/schedule.h"
#include "parallel/engine.h"
#include "support/small_models.h"

namespace tessera::testing {

inline constexpr auto kGpipe = PipelineSchedule::gpipe;
inline constexpr auto kOneF = PipelineSchedule::one_f_one_b;
inline constexpr auto kEager = PipelineSchedule::eager_one_f_one_b;
inline constexpr auto kInterleaved = PipelineSchedule::interleaved;

struct Layout {
  std::int64_t stages = 1, replicas = 1, chunks = 1;
  PipelineSchedule schedule = PipelineSchedule::one_f_one_b;
  std::int64_t zero = 1;
  std::int64_t micro_batch = 1;
  GradientType wire = GradientType::fp32;
  RankOrder order = RankOrder::pipeline_first;

  std::int64_t ranks() const { return stages * replicas; }
  std::string name() const {
    const char* kind = schedule == kGpipe   ? "gpipe"
                       : schedule == kOneF  ? "1f1b"
                       : schedule == kEager ? "eager 1f1b"
                                            : "interleaved";
    return "PP" + std::to_string(stages) + "xDP" + std::to_string(replicas) + "x" +
           std::to_string(chunks) + " " + kind + " zero " + std::to_string(zero) +
           (wire == GradientType::bf16 ? " bf16 wire" : "") +
           (order == RankOrder::data_first ? " data first" : "");
  }
};

inline Config layout_config(const ModelConfig& model, const Layout& layout, std::int64_t batch) {
  Config config;
  config.precision = Precision::fp32;
  config.model = model;
  config.train.global_batch = batch;
  config.train.micro_batch = layout.micro_batch;
  config.train.steps = 100;
  config.optimizer.lr = 1e-3;
  config.optimizer.warmup = 20;
  config.optimizer.eps = 1e-8;
  config.parallel.pipeline = layout.stages;
  config.parallel.data = layout.replicas;
  config.parallel.virtual_stages = layout.chunks;
  config.parallel.schedule = layout.schedule;
  config.parallel.zero = layout.zero;
  config.parallel.gradient_dtype = layout.wire;
  config.parallel.order = layout.order;
  return config;
}

struct LayoutRun {
  std::vector<double> losses, norms;
  double evaluation = 0;  // summed loss of one batch after the last step
  std::map<std::string, std::vector<float>> tensors;  // of this rank
};

// All ranks of `world` call it. Rank r's engine reads the samples of its replica.
inline LayoutRun run_layout(const Config& config, Device device, comm::Communicator& world,
                            int steps, const parallel::EngineOptions& options) {
  const comm::Topology topology = comm::make_topology(config, world.rank(), world.size());
  const auto engine = parallel::make_engine(config, device, topology, world, options);
  MemoryPlan plan;
  engine->plan(plan);
  const Arena arena(plan, device);
  engine->bind(arena);
  engine->initialise(11);
  const std::int64_t context = config.model.context, batch = config.train.global_batch;
  const std::int64_t micro = config.train.micro_batch, share = batch / topology.replicas;
  const double targets = double(batch * model::targets_a_sample(config.model));
  const auto sample = [&](const std::vector<std::int32_t>& ids, std::int64_t m) {
    return ids.data() + (topology.replica * share + m) * context;
  };
  LayoutRun result;
  for (int step = 1; step <= steps; ++step) {
    const auto ids = random_tokens(batch * context, config.model.vocab, std::uint64_t(step));
    engine->begin_step(1 / targets);
    for (std::int64_t m = 0; m < share; m += micro)
      engine->accumulate({micro, sample(ids, m), sample(ids, m)});
    engine->reduce_gradients();
    const parallel::Agreement agreement = engine->agree({});
    result.losses.push_back(agreement.loss_sum / targets);
    result.norms.push_back(agreement.gradient_norm);
    engine->update(step, optim::learning_rate(config.optimizer, config.train.steps, step),
                   std::min(1.0, 1 / (agreement.gradient_norm + 1e-6)));
  }
  const auto ids = random_tokens(batch * context, config.model.vocab, 99);
  for (std::int64_t m = 0; m < share; m += micro)
    result.evaluation += engine->loss({micro, sample(ids, m), sample(ids, m)});
  world.all_reduce(&result.evaluation, 1);
  const std::vector<float> parameters = engine->parameters();
  for (const model::Parameter& p : engine->local_table().parameters())
    result.tensors[p.name] = {parameters.begin() + p.offset,
                              parameters.begin() + p.offset + p.count};
  return result;
}

// Distance of a tensor from the expected one, relative to that. The un-rotated part of key biases
// has no true gradient (softmax does not see it), so AdamW moves it by the sign of rounding noise:
// elements of QKV biases that differ are left out where they are keys'.
inline double distance(const ModelConfig& model, const std::string& name,
                       const std::vector<float>& a, const std::vector<float>& b) {
  const bool qkv_bias = name.find("query_key_value.bias") != std::string::npos;
  const std::int64_t head = model.width / model.heads;
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const std::int64_t in_head = std::int64_t(i) % (3 * head);
    if (qkv_bias && in_head >= head && in_head < 2 * head) continue;
    difference += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
    norm += double(b[i]) * double(b[i]);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace tessera::testing
