#include "parallel/prediction.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "model/flops.h"
#include "optim/ownership.h"
#include "parallel/bucket_order.h"
#include "parallel/piece_weights.h"
#include "parallel/rank_engine.h"

namespace tessera::parallel {
namespace {

std::size_t at(std::int64_t index) {
  return static_cast<std::size_t>(index);
}

optim::Partition partition_of(const Config& config, const comm::Topology& topology,
                              std::int64_t parameters) {
  return {parameters, topology.replicas, optim::bucket_elements(config.parallel)};
}
}  // namespace

Predictor::Predictor(const Config& config, Device device, const Machine& machine,
                     std::optional<CostRatios> ratios)
    : config_(config),
      device_(device),
      machine_(machine),
      costs_(config, device, machine.rates, std::move(ratios)),
      memory_(config, device) {}

Predictor::Frame Predictor::frame(const Config& layout, std::int64_t ranks) const {
  Frame f;
  f.config = layout;
  f.topology = comm::make_topology(layout, 0, ranks);
  f.shape = schedule_shape(layout, f.topology);
  check_shape(f.shape);
  comm::check_pieces(f.topology, model::piece_count(layout.model));
  f.ranges = split_pieces(piece_weights(layout, device_), f.shape.stages, f.shape.chunks);
  const std::vector<PieceCost>& costs = costs_.micro_batch(layout.train.micro_batch);
  for (const PieceRange r : f.ranges) {
    double forward = 0, backward = 0;
    for (std::int64_t p = r.begin; p < r.end; ++p) {
      forward += costs[at(p)].forward;
      backward += costs[at(p)].backward;
    }
    f.forward.push_back(forward);
    f.backward.push_back(backward);
  }
  f.element = static_cast<double>(element_bytes(config_.precision));
  return f;
}

Predictor::Share Predictor::share(const Frame& f, std::int64_t parameters) const {
  const std::int64_t padded = partition_of(f.config, f.topology, parameters).padded();
  return {padded, f.config.parallel.zero == 1 ? padded / f.topology.replicas : padded};
}

StagePrediction Predictor::stage(const Frame& f, std::int64_t index) const {
  StagePrediction s;
  for (std::int64_t c = 0; c < f.shape.chunks; ++c) {
    const std::int64_t v = c * f.shape.stages + index;
    s.ranges.push_back(f.ranges[at(v)]);
    s.forward += f.forward[at(v)];
    s.backward += f.backward[at(v)];
    s.parameters += memory_.range(f.ranges[at(v)], f.config.train.micro_batch).flat;
  }
  s.memory = memory_.rank(f.config, s.ranges, f.shape, index, f.topology.replicas);
  s.libraries = library_bytes(device_, f.shape, index, f.topology.replicas);
  return s;
}

double Predictor::boundary_bytes(const Frame& f, std::int64_t v) const {
  const RangeSizes& sizes = memory_.range(f.ranges[at(v)], f.config.train.micro_batch);
  return f.element * static_cast<double>(sizes.output);
}

bool Predictor::boundary_crosses(const Frame& f, std::int64_t v) const {
  return comm::crosses_nodes(f.topology, f.stage_of(v), f.stage_of(v + 1), machine_.ranks_a_node);
}

std::vector<std::int64_t> Predictor::piece_begins(const Frame& f, const StagePrediction& s) const {
  std::vector<std::int64_t> begins;
  std::int64_t base = 0;
  for (const PieceRange r : s.ranges) {
    const RangeSizes& sizes = memory_.range(r, f.config.train.micro_batch);
    for (const std::int64_t offset : sizes.offsets) begins.push_back(base + offset);
    base += sizes.flat;
  }
  return begins;
}

std::vector<double> Predictor::gathered(const Frame& f, const StagePrediction& s,
                                        std::int64_t index, double update, double ahead) const {
  if (!f.gathers()) return {};
  const optim::Partition partition = partition_of(f.config, f.topology, s.parameters);
  const comm::Placement placement =
      comm::replica_placement(f.topology, index, machine_.ranks_a_node);
  // A bucket is gathered behind its update and the bucket before.
  std::vector<double> buckets;
  double updated = -ahead, link = -ahead;
  for (const optim::Slice& bucket : partition.buckets()) {
    const auto elements = static_cast<double>(bucket.count());
    updated += update * elements / static_cast<double>(partition.padded());
    link = std::max(link, updated) + ring_seconds(f.element * elements, placement, machine_);
    buckets.push_back(link);
  }
  std::vector<double> there;
  for (const std::size_t bucket : needed_ahead(partition, piece_begins(f, s)))
    there.push_back(buckets[bucket]);
  return there;
}

double Predictor::first_wait(const Frame& f, const std::vector<double>& there,
                             const StagePrediction& s, std::int64_t chunk, double start) const {
  const auto& costs = costs_.micro_batch(f.config.train.micro_batch);
  std::size_t piece = 0;
  for (std::int64_t c = 0; c < chunk; ++c)
    piece += static_cast<std::size_t>(s.ranges[at(c)].end - s.ranges[at(c)].begin);
  // Each piece begins once those before it are done and its parameters are there.
  double wait = 0, before = 0;
  const PieceRange r = s.ranges[at(chunk)];
  for (std::int64_t p = r.begin; p < r.end; ++p) {
    wait = std::max(wait, there[piece++] - (start + before));
    before += costs[at(p)].forward;
  }
  return wait;
}

double Predictor::reduced(const Frame& f, const StagePrediction& s, std::int64_t index,
                          const Timeline& timeline) const {
  const auto& spans = timeline.ranks[at(index)];
  const double computed = spans.empty() ? 0 : spans.back().end;
  if (f.topology.replicas == 1) return computed;
  // When the gradients of each piece are final, pieces in the order of the flat space.
  std::vector<double> final_at;
  const auto& costs = costs_.micro_batch(f.config.train.micro_batch);
  for (std::int64_t c = 0; c < f.shape.chunks; ++c) {
    const PieceRange r = s.ranges[at(c)];
    const auto last = std::find_if(spans.rbegin(), spans.rend(), [&](const Span& span) {
      return span.instruction.action == Action::backward && span.instruction.chunk == c &&
             span.instruction.micro_batch == f.shape.micro_batches - 1;
    });
    TESSERA_CHECK(last != spans.rend());
    double time = last->end;
    for (std::int64_t p = r.begin; p < r.end; ++p) {  // the first piece is done last
      final_at.push_back(time);
      time -= costs[at(p)].backward;
    }
  }
  const optim::Partition partition = partition_of(f.config, f.topology, s.parameters);
  const comm::Placement placement =
      comm::replica_placement(f.topology, index, machine_.ranks_a_node);
  const double wire = f.config.parallel.gradient_dtype == GradientType::bf16 ? 2 : kWideBytes;
  const double passes = f.config.parallel.zero == 1 ? 1 : 2;
  const std::vector<std::size_t> behind = final_behind(partition, piece_begins(f, s));
  double time = 0;
  for (std::size_t b = behind.size(); b-- > 0;) {
    const auto elements = static_cast<double>(partition.buckets()[b].count());
    time = std::max(time, final_at[behind[b]]) +
           passes * ring_seconds(wire * elements, placement, machine_);
  }
  return std::max(time, computed);
}

Prediction Predictor::predict(const Config& layout, std::int64_t ranks) const {
  const Frame f = frame(layout, ranks);
  Prediction p;
  p.config = f.config;
  p.topology = f.topology;
  p.shape = f.shape;
  double busy = 0;
  std::vector<double> updates;  // a stage
  for (std::int64_t i = 0; i < f.shape.stages; ++i) {
    StagePrediction s = stage(f, i);
    busy += (s.forward + s.backward) * static_cast<double>(f.shape.micro_batches);
    const Share share = this->share(f, s.parameters);
    OptimizerCost optimizer = costs_.optimizer(share.padded, share.owned);
    // Before its bucket is gathered each slice is updated in an operation of its own.
    if (f.gathers())
      optimizer.update +=
          machine_.rates.launch_seconds *
          static_cast<double>(partition_of(f.config, f.topology, s.parameters).buckets().size() -
                              1);
    p.parts.clear = std::max(p.parts.clear, optimizer.clear);
    p.parts.agreement = std::max(p.parts.agreement, optimizer.norms);
    p.parts.update = std::max(p.parts.update, optimizer.update);
    p.memory_bytes = std::max(p.memory_bytes, s.memory.total_bytes());
    updates.push_back(optimizer.update);
    p.stages.push_back(std::move(s));
  }

  StageCosts costs;
  costs.compute = [&](Action action, std::int64_t v) {
    return action == Action::forward ? f.forward[at(v)] : f.backward[at(v)];
  };
  std::vector<double> messages;
  for (std::int64_t v = 0; v + 1 < static_cast<std::int64_t>(f.ranges.size()); ++v)
    messages.push_back(message_seconds(boundary_bytes(f, v), boundary_crosses(f, v), machine_));
  costs.link = [&](std::int64_t v) { return messages[at(v)]; };
  p.timeline = simulate(f.shape, costs);
  p.bubble = p.timeline.bubble;
  p.ideal_bubble = ideal_bubble(f.shape);
  const double in_place = p.timeline.seconds;
  if (f.gathers()) {
    std::vector<std::vector<double>> there;  // a stage
    for (std::int64_t i = 0; i < f.shape.stages; ++i)
      there.push_back(
          gathered(f, p.stages[at(i)], i, updates[at(i)], p.parts.update + p.parts.clear));
    costs.first_wait = [&](std::int64_t v, double start) {
      const std::int64_t i = f.stage_of(v);
      return first_wait(f, there[at(i)], p.stages[at(i)], v / f.shape.stages, start);
    };
    p.timeline = simulate(f.shape, costs);
  }
  double end = 0;
  for (std::int64_t i = 0; i < f.shape.stages; ++i) {
    StagePrediction& s = p.stages[at(i)];
    s.computed = p.timeline.ranks[at(i)].back().end;
    s.reduced = reduced(f, s, i, p.timeline);
    end = std::max(end, s.reduced);
  }

  p.parts.computing = busy / static_cast<double>(f.shape.stages);
  p.parts.waiting = std::max(0.0, in_place - p.parts.computing);  // not a rounding error
  p.parts.gather = p.timeline.seconds - in_place;
  p.parts.reduction = end - p.timeline.seconds;
  p.parts.agreement += machine_.rates.host_seconds + agreement_seconds(ranks, machine_);
  p.step_seconds = p.parts.total();
  p.tokens_per_second =
      static_cast<double>(layout.train.global_batch * layout.model.context) / p.step_seconds;
  p.mfu = p.tokens_per_second * model::training_flops_per_token(layout.model) /
          static_cast<double>(ranks) / model::kDenseBf16Flops;
  p.fits = machine_.rates.memory_bytes == 0 || p.memory_bytes <= machine_.rates.memory_bytes;
  add_traffic(f, p);
  return p;
}

void Predictor::add_traffic(const Frame& f, Prediction& p) const {
  const auto micro_batches = static_cast<double>(f.shape.micro_batches);
  std::vector<LinkTraffic> forward(at(f.shape.stages)), backward(at(f.shape.stages));
  for (std::int64_t v = 0; v + 1 < static_cast<std::int64_t>(f.ranges.size()); ++v) {
    const std::int64_t from = f.stage_of(v), to = f.stage_of(v + 1);
    const bool crosses = boundary_crosses(f, v);
    const double bytes = boundary_bytes(f, v);
    const double seconds = micro_batches * message_seconds(bytes, crosses, machine_);
    const auto add = [&](LinkTraffic& link, const char* what, std::int64_t a, std::int64_t b) {
      link = {what, a, b, link.bytes + micro_batches * bytes, link.seconds + seconds, crosses};
    };
    add(forward[at(from)], "activations", from, to);
    add(backward[at(to)], "gradients back", to, from);
  }
  for (const auto& links : {forward, backward})
    for (const LinkTraffic& link : links)
      if (link.bytes > 0) p.links.push_back(link);
  const std::int64_t replicas = f.topology.replicas;
  if (replicas == 1) return;
  const bool sharded = f.config.parallel.zero == 1;
  const double wire = f.config.parallel.gradient_dtype == GradientType::bf16 ? 2 : kWideBytes;
  for (std::int64_t i = 0; i < f.shape.stages; ++i) {
    const comm::Placement placement = comm::replica_placement(f.topology, i, machine_.ranks_a_node);
    const optim::Partition partition =
        partition_of(f.config, f.topology, p.stages[at(i)].parameters);
    const auto add = [&](const char* what, double element, double passes) {
      LinkTraffic link{what, i, -1, 0, 0, placement.nodes > 1};
      for (const optim::Slice& b : partition.buckets()) {
        const double bytes = element * static_cast<double>(b.count());
        link.bytes += passes * ring_bytes(bytes, replicas);
        link.seconds += passes * ring_seconds(bytes, placement, machine_);
      }
      p.links.push_back(std::move(link));
    };
    add("gradient sums", wire, sharded ? 1 : 2);
    if (sharded) add("parameters", f.element, 1);
  }
}

Predictor::Bound Predictor::bound(const Config& layout, std::int64_t ranks) const {
  const Frame f = frame(layout, ranks);
  Bound b;
  double slowest = 0, optimizer = 0;
  for (std::int64_t i = 0; i < f.shape.stages; ++i) {
    const StagePrediction s = stage(f, i);
    slowest = std::max(slowest, s.forward + s.backward);
    const Share share = this->share(f, s.parameters);
    const OptimizerCost cost = costs_.optimizer(share.padded, share.owned);
    optimizer = std::max(optimizer, cost.clear + cost.norms + cost.update);
    if (machine_.rates.memory_bytes > 0 && s.memory.total_bytes() > machine_.rates.memory_bytes)
      b.fits = false;
  }
  b.seconds = slowest * static_cast<double>(f.shape.micro_batches) + optimizer +
              machine_.rates.host_seconds + agreement_seconds(ranks, machine_);
  return b;
}

std::string first_bottleneck(const Prediction& p) {
  const std::pair<double, const char*> parts[] = {
      {p.parts.waiting, "waiting in the pipeline"},
      {p.parts.reduction, "gradient sums that backward does not hide"},
      {p.parts.gather, "gathering parameters that the forward does not hide"},
      {p.parts.agreement, "agreement of the ranks"},
      {p.parts.update + p.parts.clear, "the optimizer's memory traffic"}};
  return std::max_element(std::begin(parts), std::end(parts))->second;
}

}  // namespace tessera::parallel
