#include "parallel/replica_engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/random.h"
#include "core/stopwatch.h"
#include "kernels/cast.h"
#include "model/initialise.h"

namespace tessera::parallel {
namespace {

model::ModelOptions options_of(const Config& config) {
  using kernels::AttentionKernel;
  const AttentionKernel attention =
      config.attention == AttentionChoice::native  ? AttentionKernel::native
      : config.attention == AttentionChoice::cudnn ? AttentionKernel::cudnn
                                                   : AttentionKernel::automatic;
  return {config.train.recompute, attention};
}

}  // namespace

template <typename T>
ReplicaEngine<T>::ReplicaEngine(const Config& config, Device device, const comm::Topology& topology,
                                comm::Communicator& replicas, const EngineOptions& options)
    : zero_(config.parallel.zero == 1),
      graphs_(options.graphs && device == Device::cuda),
      replicas_(replicas),
      context_(device),
      stage_(config.model, config.train.micro_batch, 1, options_of(config), queue()),
      padded_(optim::padded_size(stage_.table().flat_size(), topology.replicas)),
      micro_batches_(std::max<std::int64_t>(
          1, config.train.global_batch / (config.train.micro_batch * topology.replicas))),
      mine_(optim::owned_slice(stage_.table().flat_size(), topology.replica, topology.replicas)),
      optimizer_(config.optimizer, stage_.table(), sharded() ? mine_ : optim::Slice{0, padded_},
                 queue()),
      written_(optim::segments(stage_.table(), mine_)),
      sums_(DeviceContext::present(device),
            static_cast<std::int64_t>((1 + stage_.table().parameters().size()) * sizeof(double))) {}

template <typename T>
void ReplicaEngine<T>::plan(MemoryPlan& plan) {
  master_buffer_ = plan.reserve<Wide>(kHasMasters ? "master parameters" : "parameters", padded_);
  if constexpr (kHasMasters) working_buffer_ = plan.reserve<T>("working parameters", padded_);
  gradient_buffer_ = plan.reserve<Wide>("gradients", padded_);
  optimizer_.plan(plan);
  stage_.plan(plan);
  scalar_buffer_ = plan.reserve<double>("constants", 2);
  const std::int64_t tokens = 2 * stage_.sequences() * stage_.config().context;
  // The CPU computes a micro-batch before it takes the next: one place is enough.
  const std::int64_t places = queue().device == Device::cuda ? micro_batches_ : 1;
  for (std::int64_t i = 0; i < places; ++i)
    inputs_.push_back({plan.reserve<std::int32_t>("inputs", tokens),
                       HostMemory(DeviceContext::present(queue().device),
                                  tokens * static_cast<std::int64_t>(sizeof(std::int32_t))),
                       {}});
  context_.plan(plan, stage_.workspace_bytes());
}

template <typename T>
void ReplicaEngine<T>::bind(const Arena& arena) {
  arena_ = &arena;
  context_.bind(arena);
  stage_.set_queue(queue());
  masters_ = arena.at<Wide>(master_buffer_);
  gradients_ = arena.at<Wide>(gradient_buffer_);
  if constexpr (kHasMasters)
    working_ = arena.at<T>(working_buffer_);
  else
    working_ = masters_;
  loss_sum_ = arena.at<double>(scalar_buffer_);
  loss_weight_ = reinterpret_cast<Wide*>(loss_sum_ + 1);
  optimizer_.bind(arena, queue());
  stage_.bind(arena, working_, gradients_);
}

template <typename T>
void ReplicaEngine<T>::refresh_working() {
  if constexpr (kHasMasters)
    kernels::cast_to_bf16(queue(), {padded_, masters_, reinterpret_cast<std::uint16_t*>(working_)});
}

template <typename T>
void ReplicaEngine<T>::initialise(std::uint64_t seed) {
  std::vector<Wide> values(static_cast<std::size_t>(table().flat_size()));
  model::initialise(table(), seed, values.data());
  restore(State::parameter, 0, table().flat_size(), values.data());
  finish_restore();
}

template <typename T>
StateView ReplicaEngine<T>::snapshot() {
  const optim::Slice slice = optimizer_.slice();
  if (queue().device == Device::cpu)
    return {masters_, optimizer_.m(), optimizer_.v(), 0, slice.begin};
  const std::int64_t count = mine_.end - mine_.begin;
  copies_of_state_.resize(3);
  const Wide* from[3] = {masters_ + mine_.begin, optimizer_.m() + (mine_.begin - slice.begin),
                         optimizer_.v() + (mine_.begin - slice.begin)};
  for (std::size_t i = 0; i < 3; ++i) {
    copies_of_state_[i].resize(static_cast<std::size_t>(count));
    download(queue().device, copies_of_state_[i].data(), from[i],
             count * static_cast<std::int64_t>(sizeof(Wide)), queue().stream);
  }
  return {copies_of_state_[0].data(), copies_of_state_[1].data(), copies_of_state_[2].data(),
          mine_.begin, mine_.begin};
}

template <typename T>
void ReplicaEngine<T>::restore(State state, std::int64_t flat, std::int64_t count,
                               const float* values) {
  const std::int64_t begin = state == State::parameter ? 0 : optimizer_.slice().begin;
  Wide* base = state == State::parameter ? masters_
               : state == State::m       ? optimizer_.m()
                                         : optimizer_.v();
  upload(queue().device, base + (flat - begin), values,
         count * static_cast<std::int64_t>(sizeof(Wide)), queue().stream);
}

template <typename T>
void ReplicaEngine<T>::finish_restore() {
  refresh_working();
  synchronize();
}

template <typename T>
std::vector<float> ReplicaEngine<T>::gradients() {
  std::vector<float> values(static_cast<std::size_t>(table().flat_size()));
  download(queue().device, values.data(), gradients_,
           table().flat_size() * static_cast<std::int64_t>(sizeof(Wide)), queue().stream);
  return values;
}

template <typename T>
void ReplicaEngine<T>::use_algorithms(const std::string& recorded, const std::string& where) {
  if (!context_.libraries() || recorded.empty()) return;
  kernels::Algorithms known = kernels::Algorithms::from_json(recorded, where);
  kernels::Algorithms& here = kernels::algorithms(*context_.libraries());
  if (known.device == here.device && known.library == here.library) here = std::move(known);
}

template <typename T>
std::string ReplicaEngine<T>::algorithms() const {
  return context_.libraries() ? kernels::algorithms(*context_.libraries()).to_json() : "";
}

template <typename T>
void ReplicaEngine<T>::tune() {
  if (!context_.libraries()) return;
  const std::int64_t count = stage_.sequences() * model().context;
  const CounterRandom random(1, hash_name("tuning tokens"));
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(random.bits(static_cast<std::uint64_t>(i)) %
                                            static_cast<std::uint64_t>(model().vocab)));
  kernels::set_may_measure(*context_.libraries(), true);
  begin_step(1.0 / static_cast<double>(count));
  run(take(inputs_[0], {stage_.sequences(), ids.data(), ids.data()}), true);
  synchronize();
  kernels::set_may_measure(*context_.libraries(), false);
}

template <typename T>
void ReplicaEngine<T>::begin_step(double loss_weight) {
  next_input_ = 0;
  if (loss_weight == weight_now_) return;
  const auto weight = static_cast<Wide>(loss_weight);
  upload(queue().device, loss_weight_, &weight, sizeof(weight), queue().stream);
  weight_now_ = loss_weight;
}

template <typename T>
model::MicroBatch ReplicaEngine<T>::take(Input& input, const model::MicroBatch& batch) {
  TESSERA_CHECK(batch.sequences >= 1 && batch.sequences <= stage_.sequences());
  const std::int64_t tokens = batch.sequences * model().context;
  const auto bytes = tokens * static_cast<std::int64_t>(sizeof(std::int32_t));
  const std::int64_t targets = stage_.sequences() * model().context;
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
void ReplicaEngine<T>::run(const model::MicroBatch& batch, bool first) {
  if (first) {
    zero_memory(queue().device, gradients_, gradient_buffer_.bytes, queue().stream);
    zero_memory(queue().device, loss_sum_, sizeof(double), queue().stream);
  }
  stage_.forward(0, batch, model::HeadMode::train, loss_weight_, loss_sum_);
  stage_.backward(0);
}

template <typename T>
void ReplicaEngine<T>::accumulate(const model::MicroBatch& batch) {
  const bool first = next_input_ == 0;
  Input& input =
      inputs_[static_cast<std::size_t>(queue().device == Device::cuda ? next_input_ : 0)];
  ++next_input_;
  const model::MicroBatch there = take(input, batch);
  // Only whole micro-batches repeat.
  if (!graphs_ || batch.sequences != stage_.sequences()) return run(there, first);
  if (!input.graph)
    input.graph = std::make_unique<DeviceGraph>(context_.stream(), [&] { run(there, first); });
  input.graph->launch(context_.stream());
}

template <typename T>
void ReplicaEngine<T>::reduce_gradients() {
  if (replicas_.size() == 1) return;
  if constexpr (std::is_same_v<Wide, float>) {
    if (zero_)
      replicas_.reduce_scatter(gradients_, padded_ / replicas_.size());
    else
      replicas_.all_reduce(gradients_, padded_);
  }
}

template <typename T>
Agreement ReplicaEngine<T>::agree(std::vector<double> extras) {
  // [loss | squared norm of each tensor | extras]: the norms are partial sums when gradients are
  // sharded, and already global (so counted on rank 0 alone) when they are not.
  const auto tensors = table().parameters().size();
  double* const brought = sums_.template as<double>();
  const double* norms = optimizer_.squared_norms(gradients_);
  download_async(queue().device, brought, loss_sum_, sizeof(double), queue().stream);
  download_async(queue().device, brought + 1, norms,
                 static_cast<std::int64_t>(tensors * sizeof(double)), queue().stream);
  synchronize();
  if (!sharded() && replicas_.rank() != 0) std::fill_n(brought + 1, tensors, 0.0);
  std::vector<double> sums(brought, brought + 1 + tensors);
  sums.insert(sums.end(), extras.begin(), extras.end());
  replicas_.all_reduce(sums.data(), static_cast<std::int64_t>(sums.size()));

  Agreement result;
  result.loss_sum = sums[0];
  std::vector<std::pair<std::string, double>> by_name;
  for (std::size_t i = 0; i < tensors; ++i) {
    const double norm = sums[1 + i];
    if (!std::isfinite(norm) && result.bad_tensor < 0)
      result.bad_tensor = static_cast<std::int64_t>(i);
    by_name.emplace_back(table().parameters()[i].name, norm);
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
void ReplicaEngine<T>::update(std::int64_t step, double learning_rate, double scale) {
  optimizer_.update(masters_, kHasMasters ? working_ : nullptr, gradients_, step, learning_rate,
                    scale);
  if constexpr (std::is_same_v<Wide, float>)
    if (sharded()) replicas_.all_gather(masters_, padded_ / replicas_.size());
}

template <typename T>
double ReplicaEngine<T>::loss(const model::MicroBatch& batch) {
  const model::MicroBatch there = take(inputs_[0], batch);
  zero_memory(queue().device, loss_sum_, sizeof(double), queue().stream);
  stage_.forward(0, there, model::HeadMode::loss, loss_weight_, loss_sum_);
  double sum = 0;
  download(queue().device, &sum, loss_sum_, sizeof(double), queue().stream);
  return sum;
}

template <typename T>
std::vector<PartTime> ReplicaEngine<T>::time_parts(const model::MicroBatch& batch) {
  const model::MicroBatch there = take(inputs_[0], batch);
  synchronize();
  Stopwatch watch(queue().device, queue().stream);
  std::vector<std::string> names;
  watch.mark();
  const auto mark = [&](const std::string& name) {
    names.push_back(name);
    watch.mark();
  };
  zero_memory(queue().device, gradients_, gradient_buffer_.bytes, queue().stream);
  mark("clear gradients");
  stage_.set_probe([&](std::size_t piece, bool backward) {
    mark(stage_.pieces()[piece]->name() + (backward ? " backward" : ""));
  });
  run(there, false);
  stage_.set_probe({});
  optimizer_.squared_norms(gradients_);
  mark("gradient norms");
  optimizer_.update(masters_, kHasMasters ? working_ : nullptr, gradients_, 1, 0.0, 0.0);
  mark("AdamW");
  std::vector<PartTime> times;
  for (std::size_t i = 0; i < names.size(); ++i)
    times.push_back({names[i], watch.milliseconds(i, i + 1)});
  return times;
}

std::unique_ptr<Engine> make_engine(const Config& config, Device device,
                                    const comm::Topology& topology, comm::Communicator& replicas,
                                    const EngineOptions& options) {
  TESSERA_CHECK(config.precision != Precision::automatic);
  if (device == Device::cpu)
    return std::make_unique<ReplicaEngine<float>>(config, device, topology, replicas, options);
#ifdef TESSERA_HAS_CUDA
  if (replicas.size() > 1)
    throw Error(Category::config, "device cuda: this version trains on one GPU; start one rank");
  if (config.precision == Precision::bf16)
    return std::make_unique<ReplicaEngine<kernels::bf16>>(config, device, topology, replicas,
                                                          options);
  return std::make_unique<ReplicaEngine<float>>(config, device, topology, replicas, options);
#else
  throw Error(Category::config, "device cuda: this build has no CUDA backend");
#endif
}

template class ReplicaEngine<float>;
#ifdef TESSERA_HAS_CUDA
template class ReplicaEngine<kernels::bf16>;
#endif

}  // namespace tessera::parallel
