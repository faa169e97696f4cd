#include "model/token_embedding.h"

#include "core/integers.h"

namespace tessera::model {

template <typename T>
TokenEmbedding<T>::TokenEmbedding(const ModelConfig& config, ParameterTable& table,
                                  const std::string& parameter, std::string label,
                                  std::int64_t tokens_a_row)
    : config_(config),
      label_(std::move(label)),
      tokens_a_row_(tokens_a_row),
      table_(table.add(parameter, {config.vocab, div_exact(config.width, tokens_a_row)},
                       Initial::normal)) {}

template <typename T>
Boundary TokenEmbedding<T>::output(std::int64_t sequences) const {
  return {sequences * div_exact(config_.context, tokens_a_row_), config_.width};
}

template <typename T>
kernels::EmbeddingShape TokenEmbedding<T>::shape(const Pass<T>& pass) const {
  kernels::EmbeddingShape shape;
  shape.rows = pass.batch.sequences * config_.context;
  shape.width = config_.width / tokens_a_row_;
  shape.vocab = config_.vocab;
  shape.stride = shape.width;
  return shape;
}

template <typename T>
void TokenEmbedding<T>::forward(const Pass<T>& pass, const T*, T* out) {
  kernels::embedding_forward<T>(pass.queue,
                                {shape(pass), pass.batch.ids, pass.parameter(table_), out});
}

template <typename T>
void TokenEmbedding<T>::backward(const Pass<T>& pass, const T*, const T* dout, T*) {
  kernels::embedding_backward<T>(pass.queue,
                                 {shape(pass), pass.batch.ids, dout, pass.gradient(table_)});
}

template class TokenEmbedding<float>;
template class TokenEmbedding<double>;
template class TokenEmbedding<kernels::bf16>;

}  // namespace tessera::model
