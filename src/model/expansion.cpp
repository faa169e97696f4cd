#include "model/expansion.h"

#include <algorithm>
#include <cmath>

#include "kernels/copy_rows.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"

namespace tessera::model {

template <typename T>
Expansion<T>::Expansion(const ModelConfig& config, ParameterTable& table)
    : config_(config),
      weight_(table.add("token_decoder.expansion_layer.weight",
                        {config.prefix * config.width, config.width, 1}, Initial::normal,
                        1.0 / std::sqrt(static_cast<double>(config.width)))),
      bias_(table.add("token_decoder.expansion_layer.bias", {config.prefix * config.width},
                      Initial::zeros)),
      table_(table.add("token_decoder.gpt_neox.embed_in.weight", {config.vocab, config.width},
                       Initial::normal)) {}

template <typename T>
Boundary Expansion<T>::output(std::int64_t sequences) const {
  return {sequences * (blocks() - 1) * window(), config_.width};
}

template <typename T>
void Expansion<T>::plan(std::int64_t sequences, PiecePlan plan) {
  expanded_ = plan.scratch.template reserve<T>(
      "scratch", sequences * blocks() * config_.prefix * config_.width);
}

template <typename T>
void Expansion<T>::forward(const Pass<T>& pass, const T* in, T* out) {
  const std::int64_t width = config_.width, prefix = config_.prefix * width;
  T* expanded = pass.temporary(expanded_);
  kernels::linear_forward<T>(
      pass.queue, {pass.batch.sequences * blocks(), width, prefix, in, pass.parameter(weight_),
                   pass.parameter(bias_), expanded});
  for (std::int64_t b = 0; b < pass.batch.sequences; ++b) {
    T* windows = out + b * (blocks() - 1) * window() * width;
    kernels::copy_rows<T>(
        pass.queue, {blocks() - 1, config_.prefix, width, expanded + b * blocks() * prefix, prefix,
                     windows, window() * width});
    if (config_.block_length == 1) continue;  // S = P: no token is fed
    const kernels::EmbeddingShape shape{
        blocks() - 1, config_.block_length - 1, width,           config_.vocab,
        width,        config_.block_length,     window() * width};
    const std::int32_t* ids = pass.batch.ids + b * config_.context + config_.block_length;
    kernels::embedding_forward<T>(pass.queue,
                                  {shape, ids, pass.parameter(table_), windows + prefix});
  }
}

template <typename T>
void Expansion<T>::backward(const Pass<T>& pass, const T* in, const T* dout, T* din) {
  const std::int64_t width = config_.width, prefix = config_.prefix * width;
  T* dexpanded = pass.temporary(expanded_);
  for (std::int64_t b = 0; b < pass.batch.sequences; ++b) {
    const T* windows = dout + b * (blocks() - 1) * window() * width;
    T* rows = dexpanded + b * blocks() * prefix;
    kernels::copy_rows<T>(
        pass.queue, {blocks() - 1, config_.prefix, width, windows, window() * width, rows, prefix});
    std::fill_n(rows + (blocks() - 1) * prefix, prefix, T{0});  // the last context is unused
    if (config_.block_length == 1) continue;
    const kernels::EmbeddingShape shape{
        blocks() - 1, config_.block_length - 1, width,           config_.vocab,
        width,        config_.block_length,     window() * width};
    const std::int32_t* ids = pass.batch.ids + b * config_.context + config_.block_length;
    kernels::embedding_backward<T>(pass.queue,
                                   {shape, ids, windows + prefix, pass.gradient(table_)});
  }
  kernels::linear_backward<T>(
      pass.queue, {pass.batch.sequences * blocks(), width, prefix, in, pass.parameter(weight_),
                   dexpanded, din, false, pass.gradient(weight_), pass.gradient(bias_)});
}

template <typename T>
double Expansion<T>::multiply_adds() const {
  return static_cast<double>(blocks()) * static_cast<double>(config_.prefix) *
         static_cast<double>(config_.width) * static_cast<double>(config_.width);
}

template class Expansion<float>;
template class Expansion<double>;

}  // namespace tessera::model
