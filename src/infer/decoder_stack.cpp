#include "infer/decoder_stack.h"

#include <algorithm>

#include "core/device_memory.h"
#include "core/error.h"
#include "kernels/cache_rows.h"
#include "kernels/decode_attention.h"
#include "kernels/embedding.h"
#include "kernels/rotary.h"
#include "kernels/window_attention.h"

namespace tessera::infer {

template <typename T>
void StackScratch<T>::reserve(const ModelConfig& config, MemoryPlan& plan) {
  const std::int64_t width = config.width;
  const auto take = [&](std::int64_t count) { return plan.reserve<T>("activations", count); };
  norm1 = take(rows * width);
  norm2 = take(rows * width);
  qkv = take(rows * 3 * width);
  attended = take(rows * width);
  up = take(rows * config.ffn_mult * width);
  joined = take(rows * width);
  lse = plan.reserve<kernels::Wide<T>>("activations", rows * config.heads);
  last_qkv = take(windows * 3 * width);
}

template <typename T>
DecoderStack<T>::DecoderStack(const ModelConfig& config, const model::ParameterTable& table,
                              const std::string& prefix, std::int64_t layers,
                              std::int64_t sequences, std::int64_t capacity)
    : config_(config), table_(table), sequences_(sequences), capacity_(capacity) {
  for (std::int64_t i = 0; i < layers; ++i)
    layers_.push_back(model::find_layer_parameters(table, prefix, i));
  const std::int64_t rotary = model::rotary_width(config);
  cos_.resize(static_cast<std::size_t>(capacity * rotary / 2));
  sin_.resize(cos_.size());
  kernels::rotary_tables(capacity, rotary, config.rotary_base, cos_.data(), sin_.data());
}

template <typename T>
std::int64_t DecoderStack<T>::cache_bytes() const {
  return 2 * static_cast<std::int64_t>(layers_.size() * sizeof(T)) * capacity_ * config_.width;
}

template <typename T>
void DecoderStack<T>::plan(MemoryPlan& plan, const std::string& segment) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    key_buffers_.push_back(plan.reserve<T>(segment, sequences_ * capacity_ * config_.width));
    value_buffers_.push_back(plan.reserve<T>(segment, sequences_ * capacity_ * config_.width));
  }
  const auto angles = static_cast<std::int64_t>(cos_.size());
  cos_buffer_ = plan.reserve<kernels::Wide<T>>("constants", angles);
  sin_buffer_ = plan.reserve<kernels::Wide<T>>("constants", angles);
}

template <typename T>
void DecoderStack<T>::bind(const kernels::Queue& queue, const Arena& arena,
                           const StackScratch<T>& scratch, const T* parameters) {
  queue_ = queue;
  arena_ = &arena;
  scratch_ = scratch;
  parameters_ = parameters;
  const auto fill = [&](const Buffer& buffer, const std::vector<kernels::Wide<T>>& angles) {
    upload(queue.device, arena.at<kernels::Wide<T>>(buffer), angles.data(),
           static_cast<std::int64_t>(angles.size() * sizeof(angles[0])), queue.stream);
  };
  fill(cos_buffer_, cos_);
  fill(sin_buffer_, sin_);
}

namespace {

// Attention of rows that are rotated already.
template <typename T>
kernels::WindowAttentionShape<T> rotated_shape(const ModelConfig& config, std::int64_t windows,
                                               std::int64_t length) {
  kernels::WindowAttentionShape<T> shape;
  shape.windows = windows;
  shape.length = length;
  shape.heads = config.heads;
  shape.head_size = config.width / config.heads;
  return shape;
}

}  // namespace

template <typename T>
std::int64_t DecoderStack<T>::workspace_bytes(const kernels::Queue& queue, std::int64_t windows,
                                              std::int64_t length) const {
  return kernels::window_attention_workspace(queue, rotated_shape<T>(config_, windows, length));
}

template <typename T>
T* DecoderStack<T>::keys(std::size_t layer, std::int64_t sequence) const {
  return arena_->at<T>(key_buffers_[layer]) + sequence * capacity_ * config_.width;
}

template <typename T>
T* DecoderStack<T>::values(std::size_t layer, std::int64_t sequence) const {
  return arena_->at<T>(value_buffers_[layer]) + sequence * capacity_ * config_.width;
}

template <typename T>
model::LayerBuffers<T> DecoderStack<T>::buffers() const {
  const auto at = [&](const Buffer& b) { return arena_->at<T>(b); };
  return {at(scratch_.norm1), at(scratch_.norm2),    nullptr,         nullptr,
          at(scratch_.qkv),   at(scratch_.attended), at(scratch_.up), at(scratch_.up),
          at(scratch_.joined)};
}

template <typename T>
void DecoderStack<T>::cache_window(std::size_t layer, std::int64_t first, std::int64_t windows,
                                   std::int64_t length, T* qkv) const {
  kernels::CacheRows<T> args;
  args.windows = windows;
  args.length = length;
  args.heads = config_.heads;
  args.head_size = config_.width / config_.heads;
  args.rotary = model::rotary_width(config_);
  args.cos = arena_->at<kernels::Wide<T>>(cos_buffer_);
  args.sin = arena_->at<kernels::Wide<T>>(sin_buffer_);
  args.qkv = qkv;
  args.keys = keys(layer, first);
  args.values = values(layer, first);
  args.cache_window = capacity_ * config_.width;
  args.cache_row = config_.width;
  kernels::cache_rows(queue_, args);
}

template <typename T>
void DecoderStack<T>::attend_window(std::int64_t windows, std::int64_t length, T* qkv,
                                    T* out) const {
  kernels::WindowAttentionForward<T> args;
  args.shape = rotated_shape<T>(config_, windows, length);
  args.qkv = qkv;
  args.out = out;
  args.lse = arena_->at<kernels::Wide<T>>(scratch_.lse);
  kernels::window_attention_forward(queue_, args);
}

template <typename T>
void DecoderStack<T>::attend_row(std::size_t layer, std::int64_t first, std::int64_t sequences,
                                 const std::int32_t* positions, std::int64_t position, const T* qkv,
                                 T* out) const {
  kernels::DecodeAttention<T> args;
  args.sequences = sequences;
  args.heads = config_.heads;
  args.head_size = config_.width / config_.heads;
  args.rotary = model::rotary_width(config_);
  args.longest = capacity_;
  args.cos = arena_->at<kernels::Wide<T>>(cos_buffer_);
  args.sin = arena_->at<kernels::Wide<T>>(sin_buffer_);
  args.positions = positions;
  args.position = position;
  args.qkv = qkv;
  args.qkv_row = 3 * config_.width;
  args.keys = keys(layer, first);
  args.values = values(layer, first);
  args.cache_sequence = capacity_ * config_.width;
  args.cache_row = config_.width;
  args.out = out;
  kernels::decode_attention(queue_, args);
}

template <typename T>
void DecoderStack<T>::prefill(std::int64_t first, std::int64_t windows, std::int64_t length, T* x,
                              const std::int32_t* rows, const std::int32_t* positions, T* out) {
  const std::int64_t total = windows * length, width = config_.width;
  TESSERA_CHECK(total <= scratch_.rows && windows <= scratch_.windows && length <= capacity_ &&
                first + windows <= sequences_);
  const model::LayerBuffers<T> b = buffers();
  const std::size_t last = layers_.size() - 1;
  for (std::size_t i = 0; i < last; ++i)
    model::layer_forward<T>(queue_, config_, layers_[i], table_, parameters_, total, b, x, x,
                            [&](T* qkv, T* attended) {
                              cache_window(i, first, windows, length, qkv);
                              attend_window(windows, length, qkv, attended);
                            });

  // The last layer: keys and values of all rows, the rest of one row a window.
  const auto pick = [&](const T* from, std::int64_t columns, T* to) {
    kernels::EmbeddingForward<T> args;
    args.shape.rows = windows;
    args.shape.width = args.shape.stride = columns;
    args.shape.vocab = total;
    args.ids = rows;
    args.table = from;
    args.out = to;
    kernels::embedding_forward(queue_, args);
  };
  const model::LayerParameters& p = layers_[last];
  model::layer_norms(queue_, config_, p, table_, parameters_, total, b, x);
  model::layer_qkv(queue_, config_, p, table_, parameters_, total, b);
  T* const last_qkv = arena_->at<T>(scratch_.last_qkv);
  pick(b.qkv, 3 * width, last_qkv);
  cache_window(last, first, windows, length, b.qkv);
  // The row's own key and value are stored once more, as the same bits.
  attend_row(last, first, windows, positions, 0, last_qkv, b.attended);
  pick(x, width, out);
  model::layer_norms(queue_, config_, p, table_, parameters_, windows, b, out);
  model::layer_join(queue_, config_, p, table_, parameters_, windows, b, out, out);
}

template <typename T>
void DecoderStack<T>::step(std::int64_t sequences, T* x, const std::int32_t* positions,
                           std::int64_t position) {
  TESSERA_CHECK(sequences <= scratch_.rows && sequences <= sequences_);
  const model::LayerBuffers<T> b = buffers();
  for (std::size_t i = 0; i < layers_.size(); ++i)
    model::layer_forward<T>(queue_, config_, layers_[i], table_, parameters_, sequences, b, x, x,
                            [&](T* qkv, T* attended) {
                              attend_row(i, 0, sequences, positions, position, qkv, attended);
                            });
}

template struct StackScratch<float>;
template class DecoderStack<float>;
#ifdef TESSERA_HAS_CUDA
template struct StackScratch<kernels::bf16>;
template class DecoderStack<kernels::bf16>;
#endif

}  // namespace tessera::infer
