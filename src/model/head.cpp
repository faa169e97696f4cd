#include "model/head.h"

#include <algorithm>

#include "kernels/copy_rows.h"
#include "kernels/cross_entropy.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"

namespace tessera::model {
namespace {
// Rows of logits that exist at a time: enough for full-speed matrix products, few enough to stay in
// the last-level cache at vocabularies of a few thousand.
constexpr std::int64_t kLogitElements = std::int64_t{1} << 21;
constexpr std::int64_t kLeastChunk = 128;
}  // namespace

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
std::int64_t Head<T>::chunk_rows(std::int64_t rows) const {
  return std::min(rows, std::max(kLeastChunk, kLogitElements / config_.vocab));
}

template <typename T>
void Head<T>::plan(std::int64_t sequences, PiecePlan plan) {
  const std::int64_t rows = predicting_rows(sequences), width = config_.width;
  const auto keep = [&](std::int64_t count) {
    return plan.saved.template reserve<T>("activations", count);
  };
  selected_ = keep(rows * width);
  hidden_ = keep(rows * width);
  mean_ = keep(rows);
  rstd_ = keep(rows);
  dhidden_ = keep(rows * width);
  logits_ = plan.scratch.template reserve<T>("logits", chunk_rows(rows) * config_.vocab);
  losses_ = plan.scratch.template reserve<T>("logits", chunk_rows(rows));
  targets_ = plan.scratch.template reserve<std::int32_t>("logits", rows);
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
  norm.mean = pass.kept(mean_);
  norm.rstd = pass.kept(rstd_);
  kernels::layer_norm_forward(pass.queue, norm);
}

template <typename T>
void Head<T>::forward(const Pass<T>& pass, const T* in, T*) {
  select(pass, in);
  const std::int64_t width = config_.width, vocab = config_.vocab;
  const std::int64_t a_sequence = windows_.a_sequence * rows_.count;
  const std::int64_t total = predicting_rows(pass.batch.sequences), chunk = chunk_rows(total);
  const bool train = pass.mode == HeadMode::train;
  T* logits = pass.temporary(logits_);
  T* losses = pass.temporary(losses_);
  auto* targets = reinterpret_cast<std::int32_t*>(pass.scratch + targets_.offset);
  for (std::int64_t b = 0; b < pass.batch.sequences; ++b)
    std::copy_n(pass.batch.targets + b * config_.context + rows_.first_token, a_sequence,
                targets + b * a_sequence);
  double sum = 0;
  for (std::int64_t begin = 0; begin < total; begin += chunk) {
    const std::int64_t rows = std::min(chunk, total - begin);
    const T* hidden = pass.kept(hidden_) + begin * width;
    kernels::linear_forward<T>(
        pass.queue, {rows, width, vocab, hidden, pass.parameter(weight_), nullptr, logits});
    kernels::cross_entropy<T>(pass.queue, {rows, vocab, logits, targets + begin, losses,
                                           static_cast<T>(pass.loss_weight), train});
    for (std::int64_t r = 0; r < rows; ++r) sum += static_cast<double>(losses[r]);
    if (train)
      kernels::linear_backward<T>(pass.queue, {rows, width, vocab, hidden, pass.parameter(weight_),
                                               logits, pass.kept(dhidden_) + begin * width, false,
                                               pass.gradient(weight_), nullptr});
  }
  *pass.loss_sum += sum;
}

template <typename T>
void Head<T>::backward(const Pass<T>& pass, const T*, const T*, T* din) {
  const std::int64_t width = config_.width, groups = pass.batch.sequences * windows_.a_sequence;
  kernels::LayerNormBackward<T> norm;
  norm.rows = groups * rows_.count;
  norm.width = width;
  norm.x = pass.kept(selected_);
  norm.mean = pass.kept(mean_);
  norm.rstd = pass.kept(rstd_);
  norm.gain1 = pass.parameter(gain_);
  norm.dy1 = pass.kept(dhidden_);
  norm.dgain1 = pass.gradient(gain_);
  norm.dbias1 = pass.gradient(bias_);
  norm.dx = pass.temporary(dselected_);
  kernels::layer_norm_backward(pass.queue, norm);
  // Rows that predict nothing have no gradient from here.
  std::fill_n(din, groups * windows_.length * width, T{0});
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

}  // namespace tessera::model
