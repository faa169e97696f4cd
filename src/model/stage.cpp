#include "model/stage.h"

#include <algorithm>
#include <utility>

#include "core/device_memory.h"
#include "core/device_stream.h"
#include "kernels/key_mask.h"

namespace tessera::model {

void StageScratch::reserve(MemoryPlan& plan) {
  gradient_a = plan.reserve("activation gradients", gradient_bytes, 1);
  gradient_b = plan.reserve("activation gradients", gradient_bytes, 1);
  scratch = plan.reserve("scratch", scratch_bytes, 1);
}

template <typename T>
Stage<T>::Stage(const ModelConfig& config, std::int64_t sequences, std::int64_t slots,
                const ModelOptions& options, kernels::Queue queue)
    : Stage(config, {0, piece_count(config)}, sequences, slots, options, queue) {}

template <typename T>
Stage<T>::Stage(const ModelConfig& config, PieceRange range, std::int64_t sequences,
                std::int64_t slots, const ModelOptions& options, kernels::Queue queue)
    : config_(config),
      sequences_(sequences),
      slots_(slots),
      queue_(queue),
      pieces_(make_pieces<T>(config, range, table_, options, &piece_offsets_)),
      in_flight_(static_cast<std::size_t>(slots)) {
  const PieceRange padded = token_decoder_layers(config);
  masks_keys_ = options.padding && range.begin < padded.end && range.end > padded.begin;
  if (range.begin == 0) return;
  ParameterTable elsewhere;
  before_ =
      std::move(make_pieces<T>(config, {range.begin - 1, range.begin}, elsewhere, options).front());
}

template <typename T>
void Stage<T>::plan(MemoryPlan& plan) {
  StageScratch scratch;
  this->plan(plan, scratch);
  scratch.reserve(plan);
  use(scratch);
}

template <typename T>
void Stage<T>::plan(MemoryPlan& plan, StageScratch& shared) {
  std::int64_t widest = input_count(sequences_);
  input_ = slot_plan_.template reserve<T>("activations", widest);
  if (masks_keys_)
    key_mask_ = slot_plan_.template reserve<std::uint8_t>(
        "activations", sequences_ * (config_.context / config_.block_length - 1) *
                           (config_.prefix + config_.block_length - 1));
  for (const auto& piece : pieces_) {
    MemoryPlan scratch;
    piece->plan(sequences_, {slot_plan_, scratch, plan, queue_});
    shared.scratch_bytes = std::max(shared.scratch_bytes, scratch.total_bytes());
    const std::int64_t count = piece->output(sequences_).count();
    widest = std::max(widest, count);
    boundaries_.push_back(slot_plan_.template reserve<T>("activations", count));
  }
  shared.gradient_bytes =
      std::max(shared.gradient_bytes, widest * static_cast<std::int64_t>(sizeof(T)));
  for (std::int64_t s = 0; s < slots_; ++s)
    slot_memory_.push_back(plan.reserve("activations", slot_plan_.total_bytes(), 1));
}

template <typename T>
std::int64_t Stage<T>::input_count(std::int64_t sequences) const {
  return before_ ? before_->output(sequences).count() : 0;
}

template <typename T>
std::int64_t Stage<T>::output_count(std::int64_t sequences) const {
  return pieces_.back()->output(sequences).count();
}

template <typename T>
T* Stage<T>::input(std::int64_t slot) const {
  return before_ ? at(slot, input_) : nullptr;
}

template <typename T>
T* Stage<T>::output(std::int64_t slot) const {
  return output_count(1) > 0 ? at(slot, boundaries_.back()) : nullptr;
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
  pass.scratch = arena_->at<std::byte>(scratch_.scratch);
  if (masks_keys_) pass.key_mask = pass.template kept<std::uint8_t>(key_mask_);
  return pass;
}

template <typename T>
void Stage<T>::mask_keys(const Pass<T>& pass) {
  if (!masks_keys_) return;
  kernels::KeyMask mask;
  mask.batches = pass.batch.sequences;
  mask.groups = config_.context / config_.block_length - 1;
  mask.prefix = config_.prefix;
  mask.tokens = config_.block_length - 1;
  mask.targets = pass.batch.targets + config_.block_length;
  mask.batch_stride = config_.context;
  mask.group_stride = config_.block_length;
  mask.mask = pass.template kept<std::uint8_t>(key_mask_);
  kernels::key_mask(pass.queue, mask);
}

template <typename T>
T* Stage<T>::at(std::int64_t slot, const Buffer& buffer) const {
  return reinterpret_cast<T*>(arena_->at<std::byte>(slot_memory_[static_cast<std::size_t>(slot)]) +
                              buffer.offset);
}

template <typename T>
T* Stage<T>::boundary(std::int64_t slot, std::size_t piece) const {
  return piece == 0 ? input(slot) : at(slot, boundaries_[piece - 1]);
}

template <typename T>
void Stage<T>::forward(std::int64_t slot, const MicroBatch& batch, HeadMode mode,
                       const Wide<T>* loss_weight, double* loss_sum, PieceRange part) {
  TESSERA_CHECK(batch.sequences >= 1 && batch.sequences <= sequences_);
  in_flight_[static_cast<std::size_t>(slot)] = batch;
  Pass<T> p = pass(slot);
  p.mode = mode;
  p.loss_weight = loss_weight;
  p.loss_sum = loss_sum;
  if (mode == HeadMode::loss && scores_.losses) p.scores = &scores_;
  if (part.begin == 0) mask_keys(p);
  for (std::int64_t i = part.begin; i < part.end; ++i) {
    const auto piece = static_cast<std::size_t>(i);
    const TraceRange range(pieces_[piece]->name());
    pieces_[piece]->forward(p, boundary(slot, piece), boundary(slot, piece + 1));
    if (probe_) probe_(piece, false);
  }
}

template <typename T>
void Stage<T>::backward(std::int64_t slot, const T* dout, T* din, PieceRange part) {
  const Pass<T> p = pass(slot);
  // The two buffers take turns, counted from the last piece.
  T* const buffers[2] = {arena_->at<T>(scratch_.gradient_a), arena_->at<T>(scratch_.gradient_b)};
  const auto last = static_cast<std::int64_t>(pieces_.size()) - 1;
  for (std::int64_t i = part.end; i-- > part.begin;) {
    const auto piece = static_cast<std::size_t>(i), turn = static_cast<std::size_t>(last - i) % 2;
    const TraceRange range(pieces_[piece]->name());
    const T* behind = i == last && dout ? dout : buffers[turn];
    T* before = i > 0 ? buffers[1 - turn] : din;
    pieces_[piece]->backward(p, boundary(slot, piece), behind, before);
    if (probe_) probe_(piece, true);
  }
}

template <typename T>
std::vector<T> Stage<T>::logits(const MicroBatch& batch) {
  in_flight_[0] = batch;
  Pass<T> p = pass(0);
  mask_keys(p);
  for (std::size_t i = 0; i + 1 < pieces_.size(); ++i)
    pieces_[i]->forward(p, boundary(0, i), boundary(0, i + 1));
  auto& head = dynamic_cast<Head<T>&>(*pieces_.back());
  const std::int64_t count = head.predicting_rows(batch.sequences) * config_.vocab;
  MemoryPlan plan;
  const Buffer buffer = plan.reserve<T>("logits", count);
  const Arena memory(plan, queue_.device);
  head.logits(p, boundary(0, pieces_.size() - 1), memory.at<T>(buffer));
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
template class Stage<kernels::bf16>;

}  // namespace tessera::model
