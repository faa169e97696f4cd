#include "model/layer.h"

#include "core/device_memory.h"
#include "kernels/rotary.h"

namespace tessera::model {

template <typename T>
RotaryTable<T>::RotaryTable(const ModelConfig& config, std::int64_t length) {
  const std::int64_t rotary = rotary_width(config);
  cos_.resize(static_cast<std::size_t>(length * rotary / 2));
  sin_.resize(cos_.size());
  kernels::rotary_tables(length, rotary, config.rotary_base, cos_.data(), sin_.data());
}

template <typename T>
void RotaryTable<T>::plan(MemoryPlan& plan) {
  if (planned_) return;
  planned_ = true;
  cos_buffer_ = plan.reserve<Wide<T>>("constants", static_cast<std::int64_t>(cos_.size()));
  sin_buffer_ = plan.reserve<Wide<T>>("constants", static_cast<std::int64_t>(sin_.size()));
}

template <typename T>
void RotaryTable<T>::bind(const kernels::Queue& queue, const Arena& arena) {
  auto* cos_at = arena.at<Wide<T>>(cos_buffer_);
  auto* sin_at = arena.at<Wide<T>>(sin_buffer_);
  if (cos == cos_at) return;
  upload(queue.device, cos_at, cos_.data(), cos_buffer_.bytes, queue.stream);
  upload(queue.device, sin_at, sin_.data(), sin_buffer_.bytes, queue.stream);
  cos = cos_at;
  sin = sin_at;
}

template <typename T>
Layer<T>::Layer(const ModelConfig& config, ParameterTable& table, const std::string& prefix,
                std::string label, std::int64_t index, WindowShape windows,
                std::shared_ptr<RotaryTable<T>> rotary, const ModelOptions& options)
    : config_(config),
      label_(std::move(label)),
      windows_(windows),
      rotary_(std::move(rotary)),
      recompute_(options.recompute),
      attention_(options.attention),
      parameters_(add_layer_parameters(table, prefix, index, config)) {}

template <typename T>
Boundary Layer<T>::output(std::int64_t sequences) const {
  return {sequences * windows_.a_sequence * windows_.length, config_.width};
}

template <typename T>
void Layer<T>::plan(std::int64_t sequences, PiecePlan plan) {
  const std::int64_t rows = output(sequences).rows, width = config_.width;
  const std::int64_t ffn = config_.ffn_mult * width;
  // Results of matrix products (and what their backward needs) are recomputed under `layer` alone.
  MemoryPlan& products = recompute_ == Recompute::layer ? plan.scratch : plan.saved;
  MemoryPlan& cheap = recompute_ == Recompute::none ? plan.saved : plan.scratch;
  const auto reserve = [&](MemoryPlan& memory, std::int64_t columns) {
    return memory.template reserve<T>("activations", rows * columns);
  };
  Buffers& b = buffers_;
  b.mean = products.template reserve<Wide<T>>("activations", rows);
  b.rstd = products.template reserve<Wide<T>>("activations", rows);
  b.lse = products.template reserve<Wide<T>>("activations", rows * config_.heads);
  b.qkv = reserve(products, 3 * width);
  b.up = reserve(products, ffn);
  b.norm1 = reserve(cheap, width);
  b.norm2 = reserve(cheap, width);
  b.attended = reserve(cheap, width);
  b.activated = reserve(cheap, ffn);
  b.joined = reserve(plan.scratch, width);
  b.dup = reserve(plan.scratch, ffn);
  b.dnorm1 = reserve(plan.scratch, width);
  b.dnorm2 = reserve(plan.scratch, width);
  b.dattended = reserve(plan.scratch, width);
  b.dqkv = reserve(plan.scratch, 3 * width);
  if (recompute_ == Recompute::layer) b.output = reserve(plan.scratch, width);
  rotary_->plan(plan.constants);
}

template <typename T>
void Layer<T>::bind(const kernels::Queue& queue, const Arena& arena) {
  rotary_->bind(queue, arena);
}

template <typename T>
kernels::WindowAttentionShape<T> Layer<T>::attention_shape(std::int64_t sequences,
                                                           const std::uint8_t* key_mask) const {
  return {sequences * windows_.a_sequence,
          windows_.length,
          config_.heads,
          config_.width / config_.heads,
          rotary_width(config_),
          rotary_->cos,
          rotary_->sin,
          attention_,
          key_mask};
}

template <typename T>
std::int64_t Layer<T>::workspace_bytes(const kernels::Queue& queue, std::int64_t sequences) const {
  return kernels::window_attention_workspace<T>(queue, attention_shape(sequences));
}

template <typename T>
LayerBuffers<T> Layer<T>::layer_buffers(const Pass<T>& pass) const {
  const Buffers& b = buffers_;
  const auto product = [&](const Buffer& buffer) {
    return recompute_ == Recompute::layer ? pass.temporary(buffer) : pass.kept(buffer);
  };
  const auto cheap = [&](const Buffer& buffer) {
    return recompute_ == Recompute::none ? pass.kept(buffer) : pass.temporary(buffer);
  };
  return {cheap(b.norm1),
          cheap(b.norm2),
          reinterpret_cast<Wide<T>*>(product(b.mean)),
          reinterpret_cast<Wide<T>*>(product(b.rstd)),
          product(b.qkv),
          cheap(b.attended),
          product(b.up),
          cheap(b.activated),
          pass.temporary(b.joined)};
}

template <typename T>
Wide<T>* Layer<T>::lse(const Pass<T>& pass) const {
  return recompute_ == Recompute::layer ? pass.template temporary<Wide<T>>(buffers_.lse)
                                        : pass.template kept<Wide<T>>(buffers_.lse);
}

template <typename T>
void Layer<T>::attend(const Pass<T>& pass, T* qkv, T* attended, bool again) const {
  kernels::window_attention_forward<T>(pass.queue,
                                       {attention_shape(pass), qkv, attended, lse(pass), again});
}

template <typename T>
void Layer<T>::forward(const Pass<T>& pass, const T* in, T* out) {
  layer_forward<T>(pass.queue, config_, parameters_, *pass.table, pass.parameters, rows(pass),
                   layer_buffers(pass), in, out,
                   [&](T* qkv, T* attended) { attend(pass, qkv, attended, false); });
}

template <typename T>
void Layer<T>::recompute(const Pass<T>& pass, const T* in) {
  if (recompute_ == Recompute::layer) return forward(pass, in, pass.temporary(buffers_.output));
  if (recompute_ == Recompute::none) return;
  const LayerBuffers<T> b = layer_buffers(pass);
  layer_norms(pass.queue, config_, parameters_, *pass.table, pass.parameters, rows(pass), b, in);
  attend(pass, b.qkv, b.attended, true);
  kernels::gelu_forward<T>(pass.queue,
                           {rows(pass) * config_.ffn_mult * config_.width, b.up, b.activated});
}

template <typename T>
void Layer<T>::backward(const Pass<T>& pass, const T* in, const T* dout, T* din) {
  recompute(pass, in);
  const Buffers& own = buffers_;
  const LayerBuffers<T> b = layer_buffers(pass);
  const LayerParameters& p = parameters_;
  const std::int64_t n = rows(pass), width = config_.width, ffn = config_.ffn_mult * width;
  const auto linear = [&](std::int64_t in_width, std::int64_t out_width, const T* x,
                          std::int64_t weight, const T* dy, T* dx) {
    kernels::linear_backward<T>(pass.queue, {n, in_width, out_width, x, pass.parameter(weight), dy,
                                             dx, pass.gradient(weight), nullptr});
  };
  T* dup = pass.temporary(own.dup);
  T* dnorm1 = pass.temporary(own.dnorm1);
  T* dnorm2 = pass.temporary(own.dnorm2);
  T* dattended = pass.temporary(own.dattended);
  T* dqkv = pass.temporary(own.dqkv);

  // MLP branch: d(down) = dout.
  linear(ffn, width, b.activated, p.down_weight, dout, dup);
  kernels::gelu_backward<T>(pass.queue, {n, ffn, b.up, dup, dup, pass.gradient(p.up_bias)});
  linear(width, ffn, b.norm2, p.up_weight, dup, dnorm2);

  // Attention branch: d(dense) = dout.
  linear(width, width, b.attended, p.dense_weight, dout, dattended);
  kernels::window_attention_backward<T>(
      pass.queue, {attention_shape(pass), b.qkv, b.attended, lse(pass), dattended, dqkv,
                   pass.gradient(p.qkv_bias)});
  linear(width, 3 * width, b.norm1, p.qkv_weight, dqkv, dnorm1);

  // Both norms and the residual path; dout is also the gradient of both branches' last biases.
  kernels::LayerNormBackward<T> norms;
  norms.rows = n;
  norms.width = width;
  norms.x = in;
  norms.mean = b.mean;
  norms.rstd = b.rstd;
  norms.gain1 = pass.parameter(p.norm1_gain);
  norms.dy1 = dnorm1;
  norms.dgain1 = pass.gradient(p.norm1_gain);
  norms.dbias1 = pass.gradient(p.norm1_bias);
  norms.gain2 = pass.parameter(p.norm2_gain);
  norms.dy2 = dnorm2;
  norms.dgain2 = pass.gradient(p.norm2_gain);
  norms.dbias2 = pass.gradient(p.norm2_bias);
  norms.dresidual = dout;
  norms.dx = din;
  norms.dsum1 = pass.gradient(p.dense_bias);
  norms.dsum2 = pass.gradient(p.down_bias);
  kernels::layer_norm_backward<T>(pass.queue, norms);
}

template <typename T>
double Layer<T>::multiply_adds() const {
  const double rows = static_cast<double>(windows_.a_sequence * windows_.length);
  const double width = static_cast<double>(config_.width);
  const double ffn = static_cast<double>(config_.ffn_mult) * width;
  // QKV, output, up, down; scores and values with the causal half counted.
  return rows *
         (4 * width * width + 2 * width * ffn + static_cast<double>(windows_.length) * width);
}

template class RotaryTable<float>;
template class RotaryTable<double>;
template class Layer<float>;
template class Layer<double>;
template class RotaryTable<kernels::bf16>;
template class Layer<kernels::bf16>;

}  // namespace tessera::model
