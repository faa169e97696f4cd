#include "infer/sequence_state.h"

#include <algorithm>

#include "kernels/sample.h"
#include "parallel/device_context.h"

namespace tessera::infer {
namespace {

constexpr auto kInt = static_cast<std::int64_t>(sizeof(std::int32_t));

}  // namespace

template <typename T>
SequenceState<T>::SequenceState(std::int64_t vocab, const Limits& limits, std::int64_t turn)
    : vocab_(vocab),
      capacity_(limits.sequences),
      turn_(turn),
      width_(std::max<std::int64_t>(1, limits.new_tokens)) {}

template <typename T>
void SequenceState<T>::plan(MemoryPlan& plan) {
  const auto ints = [&](std::int64_t count) {
    return plan.reserve<std::int32_t>("sequences", count);
  };
  prompts_ = plan.reserve<std::int64_t>("sequences", capacity_);
  rows_ = ints(capacity_);
  positions_ = ints(capacity_);
  forced_ = ints(capacity_ * turn_);
  tokens_ = ints(capacity_ * turn_);
  produced_ = ints(capacity_);
  outputs_ = ints(capacity_ * width_);
  ended_ = plan.reserve<std::uint8_t>("sequences", capacity_);
  allowed_ = plan.reserve<std::uint8_t>("sequences", vocab_);
}

template <typename T>
void SequenceState<T>::bind(const kernels::Queue& queue, const Arena& arena) {
  queue_ = queue;
  arena_ = &arena;
  brought_ = std::make_unique<HostMemory>(parallel::DeviceContext::present(queue.device),
                                          capacity_ * (1 + width_) * kInt + capacity_);
}

template <typename T>
void SequenceState<T>::send(const Buffer& buffer, const void* from, std::int64_t bytes) const {
  upload(queue_.device, arena_->at<std::byte>(buffer), from, bytes, queue_.stream);
}

template <typename T>
void SequenceState<T>::begin(const std::vector<Prompt>& prompts, const GenerateOptions& options,
                             const std::vector<std::int32_t>& rows,
                             const std::vector<std::int32_t>& positions,
                             const std::vector<std::int32_t>& forced) {
  sequences_ = static_cast<std::int64_t>(prompts.size());
  options_ = options;
  std::vector<std::int64_t> indices;
  for (const Prompt& p : prompts) indices.push_back(p.index);
  send(prompts_, indices.data(), sequences_ * static_cast<std::int64_t>(sizeof(std::int64_t)));
  send(rows_, rows.data(), sequences_ * kInt);
  send(positions_, positions.data(), sequences_ * kInt);
  send(forced_, forced.data(), sequences_ * turn_ * kInt);
  zero_memory(queue_.device, arena_->at<std::byte>(produced_), sequences_ * kInt, queue_.stream);
  zero_memory(queue_.device, arena_->at<std::byte>(ended_), sequences_, queue_.stream);
  masked_ = !options.allowed.empty();
  if (!masked_) return;
  std::vector<std::uint8_t> allowed(static_cast<std::size_t>(vocab_));
  for (std::size_t i = 0; i < std::min(allowed.size(), options.allowed.size()); ++i)
    allowed[i] = options.allowed[i] ? 1 : 0;
  send(allowed_, allowed.data(), vocab_);
}

template <typename T>
void SequenceState<T>::forget_forced() {
  const std::vector<std::int32_t> none(static_cast<std::size_t>(sequences_ * turn_), -1);
  send(forced_, none.data(), sequences_ * turn_ * kInt);
}

template <typename T>
void SequenceState<T>::choose(std::int64_t column, const T* logits, std::int64_t stride) {
  const auto at = [&](const Buffer& b) { return arena_->at<std::int32_t>(b); };
  kernels::Sample<T> args;
  args.rows = sequences_;
  args.vocab = vocab_;
  args.stride = stride;
  args.logits = logits;
  args.allowed = masked_ ? arena_->at<std::uint8_t>(allowed_) : nullptr;
  args.temperature = options_.sampling.temperature;
  args.top_k = options_.sampling.top_k;
  args.top_p = options_.sampling.top_p;
  args.seed = options_.sampling.seed;
  args.prompts = arena_->at<std::int64_t>(prompts_);
  args.forced = at(forced_) + column;
  args.forced_stride = turn_;
  args.tokens = at(tokens_) + column;
  args.token_stride = turn_;
  args.produced = at(produced_);
  args.outputs = at(outputs_);
  args.output_stride = width_;
  args.limit = std::min(options_.tokens, width_);
  args.end_id = options_.end_id;
  args.ended = arena_->at<std::uint8_t>(ended_);
  args.positions = column == turn_ - 1 ? at(positions_) : nullptr;
  kernels::sample(queue_, args);
}

template <typename T>
Progress SequenceState<T>::progress() {
  auto* const produced = brought_->as<std::int32_t>();
  std::int32_t* const outputs = produced + capacity_;
  auto* const ended = reinterpret_cast<std::uint8_t*>(outputs + capacity_ * width_);
  const auto bring = [&](void* to, const Buffer& from, std::int64_t bytes) {
    download(queue_.device, to, arena_->at<std::byte>(from), bytes, queue_.stream);
  };
  bring(produced, produced_, sequences_ * kInt);
  bring(outputs, outputs_, sequences_ * width_ * kInt);
  bring(ended, ended_, sequences_);
  return {width_, produced, outputs, ended};
}

template class SequenceState<float>;
#ifdef TESSERA_HAS_CUDA
template class SequenceState<kernels::bf16>;
#endif

}  // namespace tessera::infer
