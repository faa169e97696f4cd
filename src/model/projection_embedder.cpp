#include "model/projection_embedder.h"

#include <cmath>

#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "kernels/transpose.h"

namespace tessera::model {
namespace {

kernels::EmbeddingShape tokens(const ModelConfig& config, std::int64_t blocks) {
  kernels::EmbeddingShape shape;
  shape.rows = blocks * config.block_length;
  shape.width = shape.stride = config.width;
  shape.vocab = config.vocab;
  return shape;
}

// z of all blocks.
template <typename T>
void turn_embeddings(const kernels::Queue& queue, const ModelConfig& config,
                     const ProjectBlocks<T>& a) {
  kernels::embedding_forward<T>(queue, {tokens(config, a.blocks), a.ids, a.table, a.embedded});
  kernels::transpose<T>(queue, {a.blocks, config.block_length, config.width, a.embedded, a.turned});
}

}  // namespace

template <typename T>
void project_blocks(const kernels::Queue& queue, const ModelConfig& config,
                    const ProjectBlocks<T>& a) {
  turn_embeddings(queue, config, a);
  kernels::linear_forward<T>(queue, {a.blocks, config.block_length * config.width, config.width,
                                     a.turned, a.weight, a.bias, a.out});
}

template <typename T>
ProjectionEmbedder<T>::ProjectionEmbedder(const ModelConfig& config, ParameterTable& table)
    : config_(config),
      table_(
          table.add("embedder.embeddings.weight", {config.vocab, config.width}, Initial::normal)),
      weight_(table.add("embedder.projection_layer.weight",
                        {config.width, config.width, config.block_length}, Initial::normal,
                        1.0 / std::sqrt(static_cast<double>(config.width * config.block_length)))),
      bias_(table.add("embedder.projection_layer.bias", {config.width}, Initial::zeros)) {}

template <typename T>
Boundary ProjectionEmbedder<T>::output(std::int64_t sequences) const {
  return {blocks(sequences), config_.width};
}

template <typename T>
void ProjectionEmbedder<T>::plan(std::int64_t sequences, PiecePlan plan) {
  const std::int64_t count = sequences * config_.context * config_.width;
  embedded_ = plan.scratch.template reserve<T>("scratch", count);
  turned_ = plan.scratch.template reserve<T>("scratch", count);
}

template <typename T>
void ProjectionEmbedder<T>::forward(const Pass<T>& pass, const T*, T* out) {
  project_blocks<T>(pass.queue, config_,
                    {blocks(pass.batch.sequences), pass.batch.ids, pass.parameter(table_),
                     pass.parameter(weight_), pass.parameter(bias_), pass.temporary(embedded_),
                     pass.temporary(turned_), out});
}

// dz = W^T du; dW += du z^T; db += du; E's rows get dz turned back. z is looked up again: that is
// cheaper than keeping a matrix of the size of all tokens from the forward on.
template <typename T>
void ProjectionEmbedder<T>::backward(const Pass<T>& pass, const T*, const T* dout, T*) {
  const std::int64_t rows = blocks(pass.batch.sequences), length = config_.block_length;
  T* const embedded = pass.temporary(embedded_);
  T* const turned = pass.temporary(turned_);
  ProjectBlocks<T> again;
  again.blocks = rows;
  again.ids = pass.batch.ids;
  again.table = pass.parameter(table_);
  again.embedded = embedded;
  again.turned = turned;
  turn_embeddings(pass.queue, config_, again);
  T* const dturned = embedded;  // embeddings are used up
  kernels::linear_backward<T>(
      pass.queue, {rows, length * config_.width, config_.width, turned, pass.parameter(weight_),
                   dout, dturned, pass.gradient(weight_), pass.gradient(bias_)});
  T* const dembedded = turned;  // and so is z
  kernels::transpose<T>(pass.queue, {rows, config_.width, length, dturned, dembedded});
  kernels::embedding_backward<T>(
      pass.queue, {tokens(config_, rows), pass.batch.ids, dembedded, pass.gradient(table_)});
}

template <typename T>
double ProjectionEmbedder<T>::multiply_adds() const {
  const auto width = static_cast<double>(config_.width);
  return static_cast<double>(config_.context) * width * width;
}

#define TESSERA_PROJECTION_EMBEDDER(T)                                    \
  template void project_blocks(const kernels::Queue&, const ModelConfig&, \
                               const ProjectBlocks<T>&);                  \
  template class ProjectionEmbedder<T>
TESSERA_PROJECTION_EMBEDDER(float);
TESSERA_PROJECTION_EMBEDDER(double);
TESSERA_PROJECTION_EMBEDDER(kernels::bf16);
#undef TESSERA_PROJECTION_EMBEDDER

}  // namespace tessera::model
