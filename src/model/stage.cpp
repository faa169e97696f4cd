#include "model/stage.h"

#include <algorithm>
#include <utility>

#include "core/device_memory.h"
#include "core/device_stream.h"

namespace tessera::model {

template <typename T>
Stage<T>::Stage(const ModelConfig& config, std::int64_t sequences, std::int64_t slots,
                const ModelOptions& options, kernels::Queue queue)
    : config_(config),
      sequences_(sequences),
      slots_(slots),
      queue_(queue),
      pieces_(make_pieces<T>(config, table_, options)),
      in_flight_(static_cast<std::size_t>(slots)) {}

template <typename T>
void Stage<T>::plan(MemoryPlan& plan) {
  std::int64_t scratch_bytes = 0, widest = 0;
  for (const auto& piece : pieces_) {
    MemoryPlan scratch;
    piece->plan(sequences_, {slot_plan_, scratch, plan, queue_});
    scratch_bytes = std::max(scratch_bytes, scratch.total_bytes());
    const std::int64_t count = piece->output(sequences_).count();
    widest = std::max(widest, count);
    boundaries_.push_back(slot_plan_.template reserve<T>("activations", count));
  }
  for (std::int64_t s = 0; s < slots_; ++s)
    slot_memory_.push_back(plan.reserve("activations", slot_plan_.total_bytes(), 1));
  gradient_a_ = plan.reserve<T>("activation gradients", widest);
  gradient_b_ = plan.reserve<T>("activation gradients", widest);
  scratch_ = plan.reserve("scratch", scratch_bytes, 1);
}

template <typename T>
void Stage<T>::bind(const Arena& arena, const T* parameters, Wide<T>* gradients) {
  arena_ = &arena;
  parameters_ = parameters;
  gradients_ = gradients;
  for (const auto& piece : pieces_) piece->bind(queue_, arena);
}

template <typename T>
std::int64_t Stage<T>::workspace_bytes() const {
  std::int64_t most = queue_.device == Device::cuda ? kernels::kWorkspaceBytes : 0;
  for (const auto& piece : pieces_)
    most = std::max(most, piece->workspace_bytes(queue_, sequences_));
  return most;
}

template <typename T>
Pass<T> Stage<T>::pass(std::int64_t slot) {
  TESSERA_CHECK(arena_ != nullptr && slot >= 0 && slot < slots_);
  Pass<T> pass;
  pass.queue = queue_;
  pass.batch = in_flight_[static_cast<std::size_t>(slot)];
  pass.table = &table_;
  pass.parameters = parameters_;
  pass.gradients = gradients_;
  pass.saved = arena_->at<std::byte>(slot_memory_[static_cast<std::size_t>(slot)]);
  pass.scratch = arena_->at<std::byte>(scratch_);
  return pass;
}

template <typename T>
T* Stage<T>::boundary(std::int64_t slot, std::size_t piece) {
  return reinterpret_cast<T*>(arena_->at<std::byte>(slot_memory_[static_cast<std::size_t>(slot)]) +
                              boundaries_[piece].offset);
}

template <typename T>
void Stage<T>::forward(std::int64_t slot, const MicroBatch& batch, HeadMode mode,
                       const Wide<T>* loss_weight, double* loss_sum) {
  TESSERA_CHECK(batch.sequences >= 1 && batch.sequences <= sequences_);
  in_flight_[static_cast<std::size_t>(slot)] = batch;
  Pass<T> p = pass(slot);
  p.mode = mode;
  p.loss_weight = loss_weight;
  p.loss_sum = loss_sum;
  const T* in = nullptr;
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const TraceRange range(pieces_[i]->name());
    T* out = boundary(slot, i);
    pieces_[i]->forward(p, in, out);
    in = out;
    if (probe_) probe_(i, false);
  }
}

template <typename T>
void Stage<T>::backward(std::int64_t slot) {
  const Pass<T> p = pass(slot);
  T* dout = arena_->at<T>(gradient_a_);
  T* din = arena_->at<T>(gradient_b_);
  for (std::size_t i = pieces_.size(); i-- > 0;) {
    const TraceRange range(pieces_[i]->name());
    pieces_[i]->backward(p, i > 0 ? boundary(slot, i - 1) : nullptr, dout, i > 0 ? din : nullptr);
    std::swap(dout, din);
    if (probe_) probe_(i, true);
  }
}

template <typename T>
std::vector<T> Stage<T>::logits(const MicroBatch& batch) {
  in_flight_[0] = batch;
  Pass<T> p = pass(0);
  const T* in = nullptr;
  for (std::size_t i = 0; i + 1 < pieces_.size(); ++i) {
    T* out = boundary(0, i);
    pieces_[i]->forward(p, in, out);
    in = out;
  }
  auto& head = dynamic_cast<Head<T>&>(*pieces_.back());
  const std::int64_t count = head.predicting_rows(batch.sequences) * config_.vocab;
  MemoryPlan plan;
  const Buffer buffer = plan.reserve<T>("logits", count);
  const Arena memory(plan, queue_.device);
  head.logits(p, in, memory.at<T>(buffer));
  std::vector<T> result(static_cast<std::size_t>(count));
  download(queue_.device, result.data(), memory.at<T>(buffer),
           count * static_cast<std::int64_t>(sizeof(T)), queue_.stream);
  return result;
}

template <typename T>
double Stage<T>::multiply_adds() const {
  double sum = 0;
  for (const auto& piece : pieces_) sum += piece->multiply_adds();
  return sum;
}

template class Stage<float>;
template class Stage<double>;
#ifdef TESSERA_HAS_CUDA
template class Stage<kernels::bf16>;
#endif

}  // namespace tessera::model
