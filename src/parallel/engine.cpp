#include "parallel/engine.h"

#include <algorithm>
#include <cmath>

#include "kernels/squared_norm.h"

namespace tessera::parallel {
namespace {

model::ModelOptions options_of(const Config& config) {
  return {config.train.recompute == Recompute::layer};
}

}  // namespace

template <typename T>
Engine<T>::Engine(const Config& config, const comm::Topology& topology,
                  comm::Communicator& replicas)
    : zero_(config.parallel.zero == 1),
      replicas_(replicas),
      stage_(config.model, config.train.micro_batch, 1, options_of(config)),
      padded_(optim::padded_size(stage_.table().flat_size(), topology.replicas)),
      mine_(optim::owned_slice(stage_.table().flat_size(), topology.replica, topology.replicas)),
      optimizer_(config.optimizer, stage_.table(), sharded() ? mine_ : optim::Slice{0, padded_}),
      written_(optim::segments(stage_.table(), mine_)) {}

template <typename T>
void Engine<T>::plan(MemoryPlan& plan) {
  parameter_buffer_ = plan.reserve<T>("parameters", padded_);
  gradient_buffer_ = plan.reserve<T>("gradients", padded_);
  optimizer_.plan(plan);
  stage_.plan(plan);
}

template <typename T>
void Engine<T>::bind(const Arena& arena) {
  parameters_ = arena.at<T>(parameter_buffer_);
  gradients_ = arena.at<T>(gradient_buffer_);
  optimizer_.bind(arena);
  stage_.bind(arena, parameters_, gradients_);
}

template <typename T>
const T* Engine<T>::moment_m(const optim::Segment& s) const {
  return optimizer_.m() + (s.offset - optimizer_.slice().begin);
}

template <typename T>
const T* Engine<T>::moment_v(const optim::Segment& s) const {
  return optimizer_.v() + (s.offset - optimizer_.slice().begin);
}

template <typename T>
void Engine<T>::zero_gradients() {
  std::fill_n(gradients_, padded_, T{0});
}

template <typename T>
double Engine<T>::accumulate(const model::MicroBatch& batch, double loss_weight) {
  double loss = 0;
  stage_.forward(0, batch, model::HeadMode::train, loss_weight, loss);
  stage_.backward(0);
  return loss;
}

template <typename T>
void Engine<T>::reduce_gradients() {
  if (replicas_.size() == 1) return;
  if (zero_)
    replicas_.reduce_scatter(gradients_, padded_ / replicas_.size());
  else
    replicas_.all_reduce(gradients_, padded_);
}

template <typename T>
Agreement Engine<T>::agree(std::vector<double> extras) {
  // [squared norm of each tensor | extras]: the norms are partial sums when gradients are sharded,
  // and already global (so counted on rank 0 alone) when they are not.
  const auto tensors = table().parameters().size();
  std::vector<double> sums(tensors, 0.0);
  if (sharded() || replicas_.rank() == 0)
    for (const optim::Segment& s : optimizer_.owned())
      sums[static_cast<std::size_t>(s.tensor)] +=
          kernels::squared_norm<T>({}, gradients_ + s.offset, s.count());
  sums.insert(sums.end(), extras.begin(), extras.end());
  replicas_.all_reduce(sums.data(), static_cast<std::int64_t>(sums.size()));

  Agreement result;
  std::vector<std::pair<std::string, double>> by_name;
  for (std::size_t i = 0; i < tensors; ++i) {
    if (!std::isfinite(sums[i]) && result.bad_tensor < 0)
      result.bad_tensor = static_cast<std::int64_t>(i);
    by_name.emplace_back(table().parameters()[i].name, sums[i]);
  }
  std::sort(by_name.begin(), by_name.end());
  double total = 0;
  for (const auto& [name, value] : by_name) total += value;
  result.gradient_norm = std::sqrt(total);
  result.sums.assign(sums.begin() + static_cast<std::ptrdiff_t>(tensors), sums.end());
  result.finite = std::isfinite(total) && std::all_of(result.sums.begin(), result.sums.end(),
                                                      [](double x) { return std::isfinite(x); });
  return result;
}

template <typename T>
void Engine<T>::update(std::int64_t step, double learning_rate, double scale) {
  optimizer_.update(parameters_, gradients_, step, learning_rate, scale);
  if (sharded()) replicas_.all_gather(parameters_, padded_ / replicas_.size());
}

template class Engine<float>;

}  // namespace tessera::parallel
