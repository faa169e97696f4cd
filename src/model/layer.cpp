#include "model/layer.h"

#include "kernels/attention.h"
#include "kernels/rotary.h"

namespace tessera::model {

template <typename T>
RotaryTable<T>::RotaryTable(const ModelConfig& config, std::int64_t length) {
  const std::int64_t rotary = rotary_width(config);
  cos.resize(static_cast<std::size_t>(length * rotary / 2));
  sin.resize(cos.size());
  kernels::rotary_tables(length, rotary, config.rotary_base, cos.data(), sin.data());
}

template <typename T>
Layer<T>::Layer(const ModelConfig& config, ParameterTable& table, const std::string& prefix,
                std::string label, std::int64_t index, WindowShape windows,
                std::shared_ptr<const RotaryTable<T>> rotary, bool recompute)
    : config_(config),
      label_(std::move(label)),
      windows_(windows),
      rotary_(std::move(rotary)),
      recompute_(recompute),
      parameters_(add_layer_parameters(table, prefix, index, config)) {}

template <typename T>
Boundary Layer<T>::output(std::int64_t sequences) const {
  return {sequences * windows_.a_sequence * windows_.length, config_.width};
}

template <typename T>
void Layer<T>::plan(std::int64_t sequences, PiecePlan plan) {
  const std::int64_t rows = output(sequences).rows, width = config_.width;
  const std::int64_t ffn = config_.ffn_mult * width;
  MemoryPlan& kept = recompute_ ? plan.scratch : plan.saved;
  const auto keep = [&](std::int64_t columns) {
    return kept.template reserve<T>("activations", rows * columns);
  };
  const auto scratch = [&](std::int64_t columns) {
    return plan.scratch.template reserve<T>("scratch", rows * columns);
  };
  Buffers& b = buffers_;
  b.norm1 = keep(width);
  b.norm2 = keep(width);
  b.mean = keep(1);
  b.rstd = keep(1);
  b.qkv = keep(3 * width);
  b.attended = keep(width);
  b.lse = keep(config_.heads);
  b.up = keep(ffn);
  b.activated = keep(ffn);
  b.projected = scratch(width);
  b.down = scratch(width);
  b.dup = scratch(ffn);
  b.dnorm1 = scratch(width);
  b.dnorm2 = scratch(width);
  b.dattended = scratch(width);
  b.dqkv = scratch(3 * width);
  if (recompute_) b.output = scratch(width);
}

template <typename T>
void Layer<T>::rotate(const Pass<T>& pass, T* qkv, bool backward) const {
  kernels::Rotary<T> args;
  args.rows = rows(pass);
  args.heads = config_.heads;
  args.head_size = config_.width / config_.heads;
  args.rotary = rotary_width(config_);
  args.length = windows_.length;
  args.cos = rotary_->cos.data();
  args.sin = rotary_->sin.data();
  args.qkv = qkv;
  args.backward = backward;
  kernels::rotary(pass.queue, args);
}

template <typename T>
void Layer<T>::compute(const Pass<T>& pass, const T* in, T* out) const {
  const Buffers& b = buffers_;
  const std::int64_t head_size = config_.width / config_.heads;
  const auto attend = [&](T* qkv, T* attended) {
    rotate(pass, qkv, false);
    kernels::AttentionForward<T> args;
    args.shape = kernels::fused_attention_shape(pass.batch.sequences * windows_.a_sequence,
                                                windows_.length, config_.heads, head_size);
    args.q = qkv;
    args.k = qkv + head_size;
    args.v = qkv + 2 * head_size;
    args.out = attended;
    args.lse = at(pass, b.lse);
    kernels::attention_forward(pass.queue, args);
  };
  const LayerBuffers<T> buffers{at(pass, b.norm1),
                                at(pass, b.norm2),
                                at(pass, b.mean),
                                at(pass, b.rstd),
                                at(pass, b.qkv),
                                at(pass, b.attended),
                                pass.temporary(b.projected),
                                at(pass, b.up),
                                at(pass, b.activated),
                                pass.temporary(b.down)};
  layer_forward<T>(pass.queue, config_, parameters_, *pass.table, pass.parameters, rows(pass),
                   buffers, in, out, attend);
}

template <typename T>
void Layer<T>::forward(const Pass<T>& pass, const T* in, T* out) {
  compute(pass, in, out);
}

template <typename T>
void Layer<T>::backward(const Pass<T>& pass, const T* in, const T* dout, T* din) {
  const Buffers& b = buffers_;
  const LayerParameters& p = parameters_;
  const std::int64_t n = rows(pass), width = config_.width, ffn = config_.ffn_mult * width;
  const std::int64_t head_size = width / config_.heads;
  if (recompute_) compute(pass, in, pass.temporary(b.output));

  // MLP branch: d(down) = dout.
  T* dup = pass.temporary(b.dup);
  kernels::linear_backward<T>(
      pass.queue, {n, ffn, width, at(pass, b.activated), pass.parameter(p.down_weight), dout, dup,
                   false, pass.gradient(p.down_weight), pass.gradient(p.down_bias)});
  kernels::gelu_backward<T>(pass.queue, {n * ffn, at(pass, b.up), dup, dup});
  kernels::linear_backward<T>(
      pass.queue,
      {n, width, ffn, at(pass, b.norm2), pass.parameter(p.up_weight), dup, pass.temporary(b.dnorm2),
       false, pass.gradient(p.up_weight), pass.gradient(p.up_bias)});

  // Attention branch: d(projected) = dout.
  kernels::linear_backward<T>(
      pass.queue, {n, width, width, at(pass, b.attended), pass.parameter(p.dense_weight), dout,
                   pass.temporary(b.dattended), false, pass.gradient(p.dense_weight),
                   pass.gradient(p.dense_bias)});
  kernels::AttentionBackward<T> attention;
  attention.shape = kernels::fused_attention_shape(pass.batch.sequences * windows_.a_sequence,
                                                   windows_.length, config_.heads, head_size);
  attention.q = at(pass, b.qkv);
  attention.k = attention.q + head_size;
  attention.v = attention.q + 2 * head_size;
  attention.out = at(pass, b.attended);
  attention.lse = at(pass, b.lse);
  attention.dout = pass.temporary(b.dattended);
  attention.dq = pass.temporary(b.dqkv);
  attention.dk = attention.dq + head_size;
  attention.dv = attention.dq + 2 * head_size;
  kernels::attention_backward(pass.queue, attention);
  rotate(pass, attention.dq, true);
  kernels::linear_backward<T>(
      pass.queue,
      {n, width, 3 * width, at(pass, b.norm1), pass.parameter(p.qkv_weight), attention.dq,
       pass.temporary(b.dnorm1), false, pass.gradient(p.qkv_weight), pass.gradient(p.qkv_bias)});

  // Both norms, and the residual path.
  kernels::layer_norm_backward<T>(
      pass.queue,
      {n, width, in, at(pass, b.mean), at(pass, b.rstd), pass.parameter(p.norm1_gain),
       pass.temporary(b.dnorm1), pass.gradient(p.norm1_gain), pass.gradient(p.norm1_bias),
       pass.parameter(p.norm2_gain), pass.temporary(b.dnorm2), pass.gradient(p.norm2_gain),
       pass.gradient(p.norm2_bias), dout, din});
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

template struct RotaryTable<float>;
template struct RotaryTable<double>;
template class Layer<float>;
template class Layer<double>;

}  // namespace tessera::model
