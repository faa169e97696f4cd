#include "infer/cached_stack.h"

#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/copy_rows.h"
#include "kernels/rotary.h"

namespace tessera::infer {

CachedStack::CachedStack(const ModelConfig& config, const model::ParameterTable& table,
                         const float* parameters, const std::string& prefix, std::int64_t count,
                         std::int64_t capacity)
    : config_(config), table_(table), parameters_(parameters), capacity_(capacity) {
  for (std::int64_t i = 0; i < count; ++i)
    layers_.push_back(model::find_layer_parameters(table, prefix, i));
  caches_.resize(static_cast<std::size_t>(count));
  for (Cache& cache : caches_) {
    cache.k.resize(static_cast<std::size_t>(capacity * config.width));
    cache.v.resize(cache.k.size());
  }
  const std::int64_t rotary = model::rotary_width(config);
  cos_.resize(static_cast<std::size_t>(capacity * rotary / 2));
  sin_.resize(cos_.size());
  kernels::rotary_tables(capacity, rotary, config.rotary_base, cos_.data(), sin_.data());
}

void CachedStack::resize(std::int64_t rows) {
  const auto size = [&](std::int64_t columns) { return static_cast<std::size_t>(rows * columns); };
  if (norm1_.size() >= size(config_.width)) return;
  for (std::vector<float>* buffer : {&norm1_, &norm2_, &attended_, &joined_})
    buffer->resize(size(config_.width));
  qkv_.resize(size(3 * config_.width));
  up_.resize(size(config_.ffn_mult * config_.width));
}

void CachedStack::attend(std::size_t layer, std::int64_t rows, float* qkv, float* out) {
  const std::int64_t heads = config_.heads, d = config_.width / heads;
  kernels::Rotary<float> rotary;
  rotary.rows = rotary.length = rows;
  rotary.heads = heads;
  rotary.head_size = d;
  rotary.rotary = model::rotary_width(config_);
  rotary.first_position = length_;
  rotary.cos = cos_.data();
  rotary.sin = sin_.data();
  rotary.qkv = qkv;
  kernels::rotary<float>({}, rotary);

  Cache& cache = caches_[layer];
  kernels::copy_rows<float>(
      {}, {rows * heads, 1, d, qkv + d, 3 * d, cache.k.data() + length_ * config_.width, d});
  kernels::copy_rows<float>(
      {}, {rows * heads, 1, d, qkv + 2 * d, 3 * d, cache.v.data() + length_ * config_.width, d});
  kernels::AttentionForward<float> args;
  args.shape = {1, heads,         d, rows, length_ + rows, 0, 3 * config_.width, 3 * d,
                0, config_.width, d};
  args.q = qkv;
  args.k = cache.k.data();
  args.v = cache.v.data();
  args.out = out;
  kernels::attention_forward<float>({}, args);
}

void CachedStack::feed(float* x, std::int64_t rows) {
  TESSERA_CHECK(length_ + rows <= capacity_);
  resize(rows);
  const model::LayerBuffers<float> buffers{norm1_.data(), norm2_.data(), nullptr,
                                           nullptr,       qkv_.data(),   attended_.data(),
                                           up_.data(),    up_.data(),    joined_.data()};
  for (std::size_t layer = 0; layer < layers_.size(); ++layer)
    model::layer_forward<float>({}, config_, layers_[layer], table_, parameters_, rows, buffers, x,
                                x, [&](float* qkv, float* out) { attend(layer, rows, qkv, out); });
  length_ += rows;
}

}  // namespace tessera::infer
