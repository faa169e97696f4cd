#include "parallel/rank_engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "parallel/bucket_order.h"
#include "parallel/piece_weights.h"
#include "parallel/split.h"

namespace tessera::parallel {
ScheduleShape schedule_shape(const Config& config, const comm::Topology& topology) {
  ScheduleShape shape;
  shape.stages = topology.stages;
  shape.chunks = config.parallel.virtual_stages;
  // One stage has nothing to schedule; shapes that it cannot have are refused as configured.
  const bool plain = topology.stages == 1 && shape.chunks == 1;
  shape.kind = plain ? PipelineSchedule::one_f_one_b : config.parallel.schedule;
  shape.micro_batches = std::max<std::int64_t>(
      1, config.train.global_batch / (config.train.micro_batch * topology.replicas));
  return shape;
}

template <typename T>
RankEngine<T>::RankEngine(const Config& config, Device device, const comm::Topology& topology,
                          comm::Communicator& world, const EngineOptions& options)
    : model_(config.model),
      zero_(config.parallel.zero == 1),
      sequences_(config.train.micro_batch),
      replica_(topology.replica),
      world_(world),
      context_(device),
      replicas_(world.split(world.size() > 1 ? topology.stage : 0, topology.replica)),
      pipeline_(world.split(world.size() > 1 ? topology.replica : 0, topology.stage)),
      whole_(model::parameter_table(config.model)),
      sums_(DeviceContext::present(device),
            static_cast<std::int64_t>((1 + whole_.parameters().size()) * sizeof(double))) {
  const ScheduleShape shape = schedule_shape(config, topology);
  check_shape(shape);
  const std::vector<model::PieceRange> ranges =
      split_pieces(piece_weights(config, device), shape.stages, shape.chunks);
  const RankSchedule schedule = make_schedule(shape, topology.stage);
  std::vector<std::unique_ptr<model::Stage<T>>> chunks;
  for (std::int64_t c = 0; c < shape.chunks; ++c) {
    const auto range = ranges[static_cast<std::size_t>(c * shape.stages + topology.stage)];
    chunks.push_back(std::make_unique<model::Stage<T>>(config.model, range, sequences_,
                                                       schedule.slots[static_cast<std::size_t>(c)],
                                                       model::model_options(config), queue()));
    bases_.push_back(local_.flat_size());
    for (const model::Parameter& p : chunks.back()->table().parameters()) {
      local_.add(p.name, p.shape, p.initial, p.deviation);
      whole_index_.push_back(whole_.find(p.name));
    }
  }
  comm::TransportOptions transport;
  transport.device = device;
  transport.staged = options.staged;
  transport.start_seconds = config.watchdog.start_seconds;
  runner_ = std::make_unique<PipelineRunner<T>>(
      context_, shape, topology.stage, schedule, std::move(chunks),
      make_links(*pipeline_, shape.chunks, transport), options.graphs && device == Device::cuda);

  transport.name = "replicas of stage " + std::to_string(topology.stage);
  transport.traffic = comm::Traffic::collectives;
  transport.most_blocks = kReplicaBlocks;
  optim::Partition partition(local_.flat_size(), topology.replicas,
                             options.bucket_elements > 0 ? options.bucket_elements
                                                         : optim::bucket_elements(config.parallel));
  const std::vector<optim::Slice> mine = partition.owned(topology.replica);
  std::unique_ptr<comm::Transport> joined;
  if (replicas_->size() > 1) joined = comm::make_transport(*replicas_, transport);
  if (joined && options.around_replicas) joined = options.around_replicas(std::move(joined));
  sync_ = std::make_unique<GradientSync<T>>(std::move(joined), partition, zero_,
                                            config.parallel.gradient_dtype == GradientType::bf16);
  optimizer_ = std::make_unique<optim::AdamW<T>>(
      config.optimizer, local_,
      sharded() ? mine : std::vector<optim::Slice>{{0, partition.padded()}}, queue());
  written_ = in_whole(optim::segments(local_, mine));
  owned_ = in_whole(optimizer_->owned());
  scored_ = holds_head() && !config.eval.tasks.empty();
  plan_cuts();
}

template <typename T>
std::vector<optim::Segment> RankEngine<T>::in_whole(std::vector<optim::Segment> segments) const {
  for (optim::Segment& s : segments) s.tensor = whole_index_[static_cast<std::size_t>(s.tensor)];
  return segments;
}

template <typename T>
void RankEngine<T>::plan_cuts() {
  if (!sync_->active()) return;
  const auto& chunks = runner_->chunks();
  std::vector<std::int64_t> begins;  // of the pieces of all chunks
  std::vector<std::size_t> first;    // piece of a chunk among them
  for (std::size_t c = 0; c < chunks.size(); ++c) {
    first.push_back(begins.size());
    for (const std::int64_t offset : chunks[c]->piece_offsets())
      begins.push_back(bases_[c] + offset);
  }
  const auto place = [first](std::size_t chunk, std::int64_t piece) {
    return first[chunk] + static_cast<std::size_t>(piece);
  };
  const std::vector<std::size_t> needed = needed_ahead(sync_->partition(), begins);
  const std::vector<std::size_t> behind = final_behind(sync_->partition(), begins);
  std::vector<std::vector<std::size_t>> final_buckets(begins.size());  // of a piece, downwards
  for (std::size_t b = behind.size(); b-- > 0;) final_buckets[behind[b]].push_back(b);

  typename PipelineRunner<T>::Cuts needed_cuts(chunks.size()), done_cuts(chunks.size());
  for (std::size_t c = 0; c < chunks.size(); ++c) {
    const auto pieces = static_cast<std::int64_t>(chunks[c]->pieces().size());
    for (std::int64_t p = 0; p < pieces; ++p) {
      const std::size_t piece = place(c, p);
      if (p == 0 || needed[piece] > needed[piece - 1]) needed_cuts[c].push_back(p);
      if (!final_buckets[piece].empty()) done_cuts[c].push_back(p);
    }
    std::reverse(done_cuts[c].begin(), done_cuts[c].end());
  }
  if (sharded())
    runner_->set_needed(
        std::move(needed_cuts), [this, place, needed](std::size_t chunk, std::int64_t piece) {
          sync_->wait_for_parameters(needed[place(chunk, piece)], context_.stream());
        });
  runner_->set_done(std::move(done_cuts),
                    [this, place, final_buckets](std::size_t chunk, std::int64_t piece) {
                      for (const std::size_t bucket : final_buckets[place(chunk, piece)])
                        sync_->reduce(bucket, context_.stream());
                    });
}

template <typename T>
void RankEngine<T>::plan(MemoryPlan& plan) {
  const std::int64_t padded = sync_->partition().padded();
  parameter_buffer_ = plan.reserve<T>("parameters", padded);
  gradient_buffer_ = plan.reserve<Wide>("gradients", padded);
  sync_->plan(plan);
  optimizer_->plan(plan);
  model::StageScratch scratch;
  std::int64_t workspace = 0;
  for (const auto& stage : runner_->chunks()) {
    stage->plan(plan, scratch);
    workspace = std::max(workspace, stage->workspace_bytes());
  }
  scratch.reserve(plan);
  for (const auto& stage : runner_->chunks()) stage->use(scratch);
  runner_->plan(plan);
  scalar_buffer_ = plan.reserve<double>("constants", 2);
  const std::int64_t tokens = 2 * sequences_ * model_.context;
  // A CPU without a pipeline computes a micro-batch before it takes the next.
  const bool one = queue().device == Device::cpu && runner_->shape().stages == 1;
  for (std::int64_t i = 0; i < (one ? 1 : runner_->shape().micro_batches); ++i)
    inputs_.push_back({plan.reserve<std::int32_t>("inputs", tokens),
                       HostMemory(DeviceContext::present(queue().device),
                                  tokens * static_cast<std::int64_t>(sizeof(std::int32_t)))});
  if (scored_) score_memory_.plan(plan, sequences_ * model::targets_a_sample(model_));
  context_.plan(plan, workspace);
}

template <typename T>
void RankEngine<T>::bind(const Arena& arena) {
  arena_ = &arena;
  context_.bind(arena);
  parameters_ = arena.at<T>(parameter_buffer_);
  gradients_ = arena.at<Wide>(gradient_buffer_);
  loss_sum_ = arena.at<double>(scalar_buffer_);
  loss_weight_ = reinterpret_cast<Wide*>(loss_sum_ + 1);
  optimizer_->bind(arena, queue());
  sync_->bind(arena, queue(), gradients_);
  runner_->bind(arena);
  if (scored_) scores_ = score_memory_.bind(queue(), arena);
  for (std::size_t c = 0; c < bases_.size(); ++c) {
    model::Stage<T>& stage = *runner_->chunks()[c];
    stage.set_queue(queue());
    stage.bind(arena, parameters_ + bases_[c], gradients_ + bases_[c]);
  }
}

template <typename T>
void RankEngine<T>::begin_step(double loss_weight) {
  next_input_ = 0;
  if (loss_weight != weight_now_) {
    const auto weight = static_cast<Wide>(loss_weight);
    upload(queue().device, loss_weight_, &weight, sizeof(weight), queue().stream);
    weight_now_ = loss_weight;
  }
  // A receive that is posted ahead occupies the GPU until the neighbour sends, and CUDA may load a
  // kernel at its first use by waiting for the GPU: every kernel runs once before that.
  if (!rehearsed_ && runner_->shape().stages > 1 && queue().device == Device::cuda) rehearse();
  clear_gradients();
  runner_->begin_step();
}

template <typename T>
void RankEngine<T>::rehearse() {
  wait_for_parameters();
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(sequences_ * model_.context));
  clear_gradients();
  runner_->rehearse(take(inputs_[0], {sequences_, ids.data(), ids.data()}), target());
  synchronize();
  rehearsed_ = true;
}

template <typename T>
void RankEngine<T>::clear_gradients() {
  zero_memory(queue().device, gradients_, gradient_buffer_.bytes, queue().stream);
  zero_memory(queue().device, loss_sum_, sizeof(double), queue().stream);
}

template <typename T>
model::MicroBatch RankEngine<T>::take(Input& input, const model::MicroBatch& batch) {
  TESSERA_CHECK(batch.sequences >= 1 && batch.sequences <= sequences_);
  const std::int64_t tokens = batch.sequences * model_.context;
  const auto bytes = tokens * static_cast<std::int64_t>(sizeof(std::int32_t));
  const std::int64_t targets = sequences_ * model_.context;
  auto* host = input.host.template as<std::int32_t>();
  auto* there = arena_->at<std::int32_t>(input.buffer);
  std::memcpy(host, batch.ids, static_cast<std::size_t>(bytes));
  std::memcpy(host + targets, batch.targets, static_cast<std::size_t>(bytes));
  upload_async(queue().device, there, host, bytes, context_.copies().get());
  upload_async(queue().device, there + targets, host + targets, bytes, context_.copies().get());
  context_.stream().wait_for(context_.copies());
  return {batch.sequences, there, there + targets};
}

template <typename T>
void RankEngine<T>::accumulate(const model::MicroBatch& batch) {
  Input& input = inputs_[next_input_];
  if (inputs_.size() > 1) ++next_input_;
  runner_->add(take(input, batch), target());
}

template <typename T>
Agreement RankEngine<T>::agree(std::vector<double> extras) {
  // [loss | squared norm of each tensor of the whole model | extras], summed over the world. Where
  // gradients are not sharded every replica has the norms: the first one's count.
  const std::size_t tensors = whole_.parameters().size(), local = local_.parameters().size();
  double* const brought = sums_.template as<double>();
  const double* norms = optimizer_->squared_norms(gradients_);
  download_async(queue().device, brought, loss_sum_, sizeof(double), queue().stream);
  download_async(queue().device, brought + 1, norms,
                 static_cast<std::int64_t>(local * sizeof(double)), queue().stream);
  synchronize();
  std::vector<double> sums(1 + tensors);
  sums[0] = brought[0];
  if (sharded() || replica_ == 0)
    for (std::size_t i = 0; i < local; ++i)
      sums[1 + static_cast<std::size_t>(whole_index_[i])] = brought[1 + i];
  sums.insert(sums.end(), extras.begin(), extras.end());
  world_.all_reduce(sums.data(), static_cast<std::int64_t>(sums.size()));

  Agreement result;
  result.loss_sum = sums[0];
  std::vector<std::pair<std::string, double>> by_name;
  for (std::size_t i = 0; i < tensors; ++i) {
    const double norm = sums[1 + i];
    if (!std::isfinite(norm) && result.bad_tensor < 0)
      result.bad_tensor = static_cast<std::int64_t>(i);
    by_name.emplace_back(whole_.parameters()[i].name, norm);
  }
  std::sort(by_name.begin(), by_name.end());
  double total = 0;
  for (const auto& [name, value] : by_name) total += value;
  result.gradient_norm = std::sqrt(total);
  result.sums.assign(sums.begin() + static_cast<std::ptrdiff_t>(1 + tensors), sums.end());
  result.finite = std::isfinite(total) && std::isfinite(result.loss_sum) &&
                  std::all_of(result.sums.begin(), result.sums.end(),
                              [](double x) { return std::isfinite(x); });
  return result;
}

template <typename T>
void RankEngine<T>::update(std::int64_t step, double learning_rate, double scale) {
  if (!sharded()) return optimizer_->update(parameters_, gradients_, step, learning_rate, scale);
  // An update that no forward came before would change what is still being gathered.
  wait_for_parameters();
  // The slices of the optimizer are those of the buckets, whose gathering begins behind each.
  optimizer_->update(
      parameters_, gradients_, step, learning_rate, scale,
      [this](std::size_t bucket) { sync_->gather(bucket, parameters_, context_.stream()); });
}

template <typename T>
void RankEngine<T>::synchronize() {
  wait_for_parameters();
  context_.stream().synchronize();
}

template <typename T>
double RankEngine<T>::loss(const model::MicroBatch& batch) {
  wait_for_parameters();
  // The input's place may still be read where nothing below waits.
  if (!holds_head()) synchronize();
  const model::MicroBatch there = take(inputs_[0], batch);
  zero_memory(queue().device, loss_sum_, sizeof(double), queue().stream);
  runner_->evaluate(there, loss_sum_);
  if (!holds_head()) return 0;
  double sum = 0;
  download(queue().device, &sum, loss_sum_, sizeof(double), queue().stream);
  return sum;
}

template <typename T>
model::HostScores RankEngine<T>::score(const model::MicroBatch& batch) {
  if (!holds_head()) return loss(batch), model::HostScores{};
  TESSERA_CHECK(scored_);
  model::Stage<T>& last = *runner_->chunks().back();
  last.set_scores(scores_);
  loss(batch);
  last.set_scores({});
  return score_memory_.bring(batch.sequences * model::targets_a_sample(model_));
}

template <typename T>
void RankEngine<T>::abort() noexcept {
  runner_->abort();
  sync_->abort();
}

template class RankEngine<float>;
#ifdef TESSERA_HAS_CUDA
template class RankEngine<kernels::bf16>;
#endif

std::unique_ptr<Engine> make_engine(const Config& config, Device device,
                                    const comm::Topology& topology, comm::Communicator& world,
                                    const EngineOptions& options) {
  TESSERA_CHECK(config.precision != Precision::automatic);
#ifdef TESSERA_HAS_CUDA
  if (device == Device::cuda && config.precision == Precision::bf16)
    return std::make_unique<RankEngine<kernels::bf16>>(config, device, topology, world, options);
#endif
  if (device == Device::cuda && !kernels::kHasCuda)
    throw Error(Category::config, "device cuda: this build has no CUDA backend");
  return std::make_unique<RankEngine<float>>(config, device, topology, world, options);
}

}  // namespace tessera::parallel
