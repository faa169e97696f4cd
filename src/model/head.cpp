#include "model/head.h"

#include <algorithm>

#include "core/device_memory.h"
#include "core/integers.h"
#include "kernels/copy_rows.h"
#include "kernels/cross_entropy.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/sample.h"
#include "kernels/sum.h"

namespace tessera::model {
namespace {
// Logits that exist at a time. CPU: enough rows for full-speed matrix products, few enough to stay
// in the last-level cache at vocabularies of a few thousand. CUDA: enough rows that adding to the
// classifier's fp32 gradient once a chunk costs little beside the product itself.
constexpr std::int64_t kLogitElements = std::int64_t{1} << 21;
constexpr std::int64_t kLogitElementsCuda = std::int64_t{1} << 30;
constexpr std::int64_t kLeastChunk = 128;

// Rows start at multiples of 16 bytes, which the matrix products want.
std::int64_t logit_stride(const ModelConfig& config) {
  return round_up<std::int64_t>(config.vocab, 8);
}
}  // namespace

std::int64_t head_chunk_rows(const ModelConfig& config, Device device, std::int64_t rows) {
  const std::int64_t elements = device == Device::cuda ? kLogitElementsCuda : kLogitElements;
  const std::int64_t most =
      std::max(kLeastChunk, elements / logit_stride(config) / kLeastChunk * kLeastChunk);
  const std::int64_t chunks = div_ceil(rows, most);  // of nearly equal length
  return std::min(rows, round_up(div_ceil(rows, chunks), kLeastChunk));
}

template <typename T>
Head<T>::Head(const ModelConfig& config, ParameterTable& table, const std::string& norm_prefix,
              const std::string& classifier, WindowShape windows, HeadRows rows)
    : config_(config),
      windows_(windows),
      rows_(rows),
      gain_(table.add(norm_prefix + ".final_layer_norm.weight", {config.width}, Initial::ones)),
      bias_(table.add(norm_prefix + ".final_layer_norm.bias", {config.width}, Initial::zeros)),
      weight_(table.add(classifier, {config.vocab, config.width}, Initial::normal)) {}

template <typename T>
std::int64_t Head<T>::stride() const {
  return logit_stride(config_);
}

template <typename T>
void Head<T>::plan(std::int64_t sequences, PiecePlan plan) {
  const std::int64_t rows = predicting_rows(sequences), width = config_.width;
  const auto keep = [&](std::int64_t count) {
    return plan.saved.template reserve<T>("activations", count);
  };
  selected_ = keep(rows * width);
  hidden_ = keep(rows * width);
  mean_ = plan.saved.template reserve<Wide<T>>("activations", rows);
  rstd_ = plan.saved.template reserve<Wide<T>>("activations", rows);
  dhidden_ = keep(rows * width);
  logits_ = plan.scratch.template reserve<T>(
      "logits", head_chunk_rows(config_, plan.queue.device, rows) * stride());
  losses_ = plan.scratch.template reserve<Wide<T>>("logits", rows);
  dselected_ = plan.scratch.template reserve<T>("scratch", rows * width);
}

template <typename T>
void Head<T>::select(const Pass<T>& pass, const T* in) {
  const std::int64_t width = config_.width, groups = pass.batch.sequences * windows_.a_sequence;
  kernels::copy_rows<T>(
      pass.queue, {groups, rows_.count, width, in + rows_.first * width, windows_.length * width,
                   pass.kept(selected_), rows_.count * width});
  kernels::LayerNormForward<T> norm;
  norm.rows = groups * rows_.count;
  norm.width = width;
  norm.eps = config_.eps;
  norm.x = pass.kept(selected_);
  norm.gain1 = pass.parameter(gain_);
  norm.bias1 = pass.parameter(bias_);
  norm.y1 = pass.kept(hidden_);
  norm.mean = pass.template kept<Wide<T>>(mean_);
  norm.rstd = pass.template kept<Wide<T>>(rstd_);
  kernels::layer_norm_forward(pass.queue, norm);
}

template <typename T>
void Head<T>::forward(const Pass<T>& pass, const T* in, T*) {
  select(pass, in);
  const std::int64_t width = config_.width, vocab = config_.vocab;
  const std::int64_t total = predicting_rows(pass.batch.sequences);
  const std::int64_t chunk = head_chunk_rows(config_, pass.queue.device, total);
  auto* losses = pass.scores ? pass.scores->losses : pass.template temporary<Wide<T>>(losses_);

  kernels::LinearForward<T> classify;
  classify.in = width;
  classify.out = vocab;
  classify.weight = pass.parameter(weight_);
  classify.y = pass.temporary(logits_);
  classify.y_stride = stride();
  kernels::CrossEntropy<T> loss;
  loss.vocab = vocab;
  loss.logits = classify.y;
  loss.stride = stride();
  loss.targets = pass.batch.targets + rows_.first_token;
  loss.group_rows = windows_.a_sequence * rows_.count;
  loss.group_stride = config_.context;
  loss.weight = pass.loss_weight;
  loss.gradient = pass.mode == HeadMode::train;
  kernels::LinearBackward<T> back;
  back.in = width;
  back.out = vocab;
  back.weight = classify.weight;
  back.dy = classify.y;
  back.y_stride = stride();
  if (loss.gradient) back.dweight = pass.gradient(weight_);

  for (std::int64_t begin = 0; begin < total; begin += chunk) {
    classify.rows = loss.rows = back.rows = std::min(chunk, total - begin);
    classify.x = back.x = pass.kept(hidden_) + begin * width;
    loss.first_row = begin;
    loss.losses = losses + begin;
    back.dx = pass.kept(dhidden_) + begin * width;
    kernels::linear_forward(pass.queue, classify);
    if (pass.scores) likeliest(pass, classify.y, classify.rows, begin);
    kernels::cross_entropy(pass.queue, loss);
    if (loss.gradient) kernels::linear_backward(pass.queue, back);
  }
  kernels::sum<Wide<T>>(pass.queue, {total, losses, pass.loss_sum});
}

template <typename T>
void Head<T>::likeliest(const Pass<T>& pass, const T* logits, std::int64_t rows,
                        std::int64_t first) const {
  kernels::Sample<T> greedy;
  greedy.rows = rows;
  greedy.vocab = config_.vocab;
  greedy.stride = stride();
  greedy.logits = logits;
  greedy.tokens = pass.scores->best + first;
  greedy.produced = pass.scores->counts + first;
  greedy.ended = pass.scores->ended + first;
  kernels::sample(pass.queue, greedy);
}

template <typename T>
void Head<T>::backward(const Pass<T>& pass, const T*, const T*, T* din) {
  const std::int64_t width = config_.width, groups = pass.batch.sequences * windows_.a_sequence;
  kernels::LayerNormBackward<T> norm;
  norm.rows = groups * rows_.count;
  norm.width = width;
  norm.x = pass.kept(selected_);
  norm.mean = pass.template kept<Wide<T>>(mean_);
  norm.rstd = pass.template kept<Wide<T>>(rstd_);
  norm.gain1 = pass.parameter(gain_);
  norm.dy1 = pass.kept(dhidden_);
  norm.dgain1 = pass.gradient(gain_);
  norm.dbias1 = pass.gradient(bias_);
  norm.dx = pass.temporary(dselected_);
  kernels::layer_norm_backward(pass.queue, norm);
  // Rows that predict nothing have no gradient from here.
  zero_memory(pass.queue.device, din,
              groups * windows_.length * width * static_cast<std::int64_t>(sizeof(T)),
              pass.queue.stream);
  kernels::copy_rows<T>(pass.queue, {groups, rows_.count, width, norm.dx, rows_.count * width,
                                     din + rows_.first * width, windows_.length * width});
}

template <typename T>
void Head<T>::logits(const Pass<T>& pass, const T* in, T* out) {
  select(pass, in);
  kernels::linear_forward<T>(pass.queue,
                             {predicting_rows(pass.batch.sequences), config_.width, config_.vocab,
                              pass.kept(hidden_), pass.parameter(weight_), nullptr, out});
}

template <typename T>
double Head<T>::multiply_adds() const {
  // By the project's definition every token of the context counts, predicted or not.
  return static_cast<double>(config_.context) * static_cast<double>(config_.width) *
         static_cast<double>(config_.vocab);
}

template class Head<float>;
template class Head<double>;
template class Head<kernels::bf16>;

}  // namespace tessera::model
