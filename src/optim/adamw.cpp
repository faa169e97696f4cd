#include "optim/adamw.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/squared_norms.h"

namespace tessera::optim {

template <typename T>
AdamW<T>::AdamW(const OptimizerConfig& config, const model::ParameterTable& table,
                std::vector<Slice> slices, kernels::Queue queue)
    : config_(config),
      tensors_(static_cast<std::int64_t>(table.parameters().size())),
      slices_(std::move(slices)),
      queue_(queue),
      segments_(segments(table, slices_)),
      step_host_(cuda_device_count() > 0 ? queue.device : Device::cpu, sizeof(kernels::AdamWStep)) {
  std::int64_t kept = 0;
  for (const Slice& slice : slices_) {
    shifts_.push_back(slice.begin - kept);
    kept += slice.count();
  }
  for (const Segment& s : segments_) {
    const auto decay = static_cast<float>(decays(table[s.tensor]) ? config.weight_decay : 0.0);
    const std::int64_t most = queue.device == Device::cuda ? kernels::kSliceElements
                                                           : std::max<std::int64_t>(s.count(), 1);
    for (std::int64_t begin = 0; begin < s.count(); begin += most)
      list_.push_back({s.offset + begin, std::min(most, s.count() - begin),
                       static_cast<std::int32_t>(s.tensor), decay, shift(s.offset)});
  }
  // Tensors ascend in the flat space, and so does the list.
  std::size_t end = 0;
  for (const Slice& slice : slices_) {
    while (end < list_.size() && list_[end].offset < slice.end) ++end;
    list_ends_.push_back(end);
  }
}

template <typename T>
std::int64_t AdamW<T>::shift(std::int64_t flat) const {
  const auto after =
      std::upper_bound(slices_.begin(), slices_.end(), flat,
                       [](std::int64_t value, const Slice& slice) { return value < slice.begin; });
  TESSERA_CHECK(after != slices_.begin() && flat < (after - 1)->end);
  return shifts_[static_cast<std::size_t>(after - slices_.begin() - 1)];
}

template <typename T>
void AdamW<T>::plan(MemoryPlan& plan) {
  const auto count = static_cast<std::int64_t>(list_.size());
  std::int64_t kept = 0;
  for (const Slice& slice : slices_) kept += slice.count();
  if constexpr (kHasMasters) master_buffer_ = plan.reserve<Wide>("master parameters", kept);
  m_buffer_ = plan.reserve<Wide>("adam moments", kept);
  v_buffer_ = plan.reserve<Wide>("adam moments", kept);
  list_buffer_ = plan.reserve<kernels::TensorSlice>("constants", count);
  step_buffer_ = plan.reserve<kernels::AdamWStep>("constants", 1);
  partial_buffer_ = plan.reserve<double>("constants", count);
  sums_buffer_ = plan.reserve<double>("constants", tensors_);
}

template <typename T>
void AdamW<T>::bind(const Arena& arena, const kernels::Queue& queue) {
  queue_ = queue;
  if constexpr (kHasMasters) masters_ = arena.at<Wide>(master_buffer_);
  m_ = arena.at<Wide>(m_buffer_);
  v_ = arena.at<Wide>(v_buffer_);
  auto* list = arena.at<kernels::TensorSlice>(list_buffer_);
  upload(queue_.device, list, list_.data(), list_buffer_.bytes, queue_.stream);
  list_at_ = list;
  step_ = arena.at<kernels::AdamWStep>(step_buffer_);
  partial_ = arena.at<double>(partial_buffer_);
  sums_ = arena.at<double>(sums_buffer_);
}

template <typename T>
const double* AdamW<T>::squared_norms(const Wide* gradients) {
  kernels::squared_norms<Wide>(queue_, {list_at_, static_cast<std::int64_t>(list_.size()),
                                        gradients, partial_, sums_, tensors_});
  return sums_;
}

template <typename T>
void AdamW<T>::update(T* parameters, const Wide* gradients, std::int64_t step, double learning_rate,
                      double scale, const std::function<void(std::size_t)>& done) {
  *step_host_.as<kernels::AdamWStep>() =
      kernels::adamw_step(learning_rate, scale, config_.betas[0], config_.betas[1], step);
  upload_async(queue_.device, step_, step_host_.as<std::byte>(), sizeof(kernels::AdamWStep),
               queue_.stream);
  kernels::AdamW<T> args;
  args.step = step_;
  args.beta1 = config_.betas[0];
  args.beta2 = config_.betas[1];
  args.eps = config_.eps;
  args.m = m_;
  args.v = v_;
  args.gradient = gradients;
  if constexpr (kHasMasters) {
    args.parameter = masters_;
    args.working = parameters;
  } else {
    args.parameter = parameters;
  }
  const auto update_list = [&](std::size_t begin, std::size_t end) {
    args.slices = list_at_ + begin;
    args.slice_count = static_cast<std::int64_t>(end - begin);
    kernels::adamw(queue_, args);
  };
  if (!done) return update_list(0, list_.size());
  for (std::size_t s = 0; s < slices_.size(); ++s) {
    update_list(s > 0 ? list_ends_[s - 1] : 0, list_ends_[s]);
    done(s);
  }
}

template class AdamW<float>;
template class AdamW<double>;
#ifdef TESSERA_HAS_CUDA
template class AdamW<kernels::bf16>;
#endif

}  // namespace tessera::optim
