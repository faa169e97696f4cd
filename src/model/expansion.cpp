#include "model/expansion.h"

#include <cmath>
#include <utility>

#include "core/device_memory.h"
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
kernels::EmbeddingShape Expansion<T>::tokens(const Pass<T>& pass) const {
  kernels::EmbeddingShape shape;
  shape.groups = blocks() - 1;
  shape.rows = config_.block_length - 1;
  shape.width = shape.stride = config_.width;
  shape.vocab = config_.vocab;
  shape.ids_group_stride = config_.block_length;
  shape.out_group_stride = window() * config_.width;
  shape.batches = pass.batch.sequences;
  shape.ids_batch_stride = config_.context;
  shape.out_batch_stride = shape.groups * shape.out_group_stride;
  return shape;
}

template <typename T>
kernels::CopyRows<T> Expansion<T>::prefixes(const Pass<T>& pass) const {
  kernels::CopyRows<T> copy;
  copy.groups = blocks() - 1;
  copy.runs_a_group = config_.prefix;
  copy.width = config_.width;
  copy.from_group = config_.prefix * config_.width;
  copy.to_group = window() * config_.width;
  copy.batches = pass.batch.sequences;
  copy.from_batch = blocks() * copy.from_group;
  copy.to_batch = copy.groups * copy.to_group;
  return copy;
}

template <typename T>
void Expansion<T>::forward(const Pass<T>& pass, const T* in, T* out) {
  const std::int64_t width = config_.width, prefix = config_.prefix * width;
  T* expanded = pass.temporary(expanded_);
  kernels::linear_forward<T>(
      pass.queue, {pass.batch.sequences * blocks(), width, prefix, in, pass.parameter(weight_),
                   pass.parameter(bias_), expanded});
  kernels::CopyRows<T> copy = prefixes(pass);
  copy.from = expanded;
  copy.to = out;
  kernels::copy_rows<T>(pass.queue, copy);
  if (config_.block_length == 1) return;  // S = P: no token is fed
  kernels::embedding_forward<T>(pass.queue, {tokens(pass), pass.batch.ids + config_.block_length,
                                             pass.parameter(table_), out + prefix});
}

template <typename T>
void Expansion<T>::backward(const Pass<T>& pass, const T* in, const T* dout, T* din) {
  const std::int64_t width = config_.width, prefix = config_.prefix * width;
  const std::int64_t rows = pass.batch.sequences * blocks();
  T* dexpanded = pass.temporary(expanded_);
  // The last context of a sequence is unused: its gradient stays zero.
  zero_memory(pass.queue.device, dexpanded, rows * prefix * static_cast<std::int64_t>(sizeof(T)),
              pass.queue.stream);
  kernels::CopyRows<T> copy = prefixes(pass);
  std::swap(copy.from_group, copy.to_group);
  std::swap(copy.from_batch, copy.to_batch);
  copy.from = dout;
  copy.to = dexpanded;
  kernels::copy_rows<T>(pass.queue, copy);
  if (config_.block_length > 1)
    kernels::embedding_backward<T>(pass.queue, {tokens(pass), pass.batch.ids + config_.block_length,
                                                dout + prefix, pass.gradient(table_)});
  kernels::linear_backward<T>(pass.queue,
                              {rows, width, prefix, in, pass.parameter(weight_), dexpanded, din,
                               pass.gradient(weight_), pass.gradient(bias_)});
}

template <typename T>
double Expansion<T>::multiply_adds() const {
  return static_cast<double>(blocks()) * static_cast<double>(config_.prefix) *
         static_cast<double>(config_.width) * static_cast<double>(config_.width);
}

template class Expansion<float>;
template class Expansion<double>;
template class Expansion<kernels::bf16>;

}  // namespace tessera::model
