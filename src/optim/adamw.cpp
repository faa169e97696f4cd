#include "optim/adamw.h"

#include "kernels/adamw.h"

namespace tessera::optim {

template <typename T>
AdamW<T>::AdamW(const OptimizerConfig& config, const model::ParameterTable& table, Slice slice,
                kernels::Queue queue)
    : config_(config), slice_(slice), queue_(queue), segments_(segments(table, slice)) {
  for (const Segment& s : segments_)
    decay_.push_back(decays(table[s.tensor]) ? config.weight_decay : 0.0);
}

template <typename T>
void AdamW<T>::plan(MemoryPlan& plan) {
  m_buffer_ = plan.reserve<T>("adam moments", slice_.end - slice_.begin);
  v_buffer_ = plan.reserve<T>("adam moments", slice_.end - slice_.begin);
}

template <typename T>
void AdamW<T>::bind(const Arena& arena) {
  m_ = arena.at<T>(m_buffer_);
  v_ = arena.at<T>(v_buffer_);
}

template <typename T>
void AdamW<T>::update(T* parameters, const T* gradients, std::int64_t step, double learning_rate,
                      double scale) {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const Segment& s = segments_[i];
    kernels::AdamW<T> args;
    args.count = s.count();
    args.parameter = parameters + s.offset;
    args.m = m_ + (s.offset - slice_.begin);
    args.v = v_ + (s.offset - slice_.begin);
    args.gradient = gradients + s.offset;
    args.lr = learning_rate;
    args.beta1 = config_.betas[0];
    args.beta2 = config_.betas[1];
    args.eps = config_.eps;
    args.weight_decay = decay_[i];
    args.scale = scale;
    args.step = step;
    kernels::adamw(queue_, args);
  }
}

template class AdamW<float>;
template class AdamW<double>;

}  // namespace tessera::optim
