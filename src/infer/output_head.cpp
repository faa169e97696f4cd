#include "infer/output_head.h"

#include "core/error.h"
#include "core/integers.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"

namespace tessera::infer {

std::int64_t index_of(const model::ParameterTable& table, const std::string& name) {
  const std::int64_t index = table.find(name);
  if (index < 0) throw Error(Category::internal, "the model has no parameter '" + name + "'");
  return index;
}

template <typename T>
void final_norm(const kernels::Queue& queue, const ModelConfig& config,
                const model::ParameterTable& table, const T* parameters, std::int64_t gain,
                std::int64_t bias, std::int64_t rows, const T* x, T* y) {
  kernels::LayerNormForward<T> args;
  args.rows = rows;
  args.width = config.width;
  args.eps = config.eps;
  args.x = x;
  args.gain1 = parameters + table[gain].offset;
  args.bias1 = parameters + table[bias].offset;
  args.y1 = y;
  kernels::layer_norm_forward(queue, args);
}

template <typename T>
OutputHead<T>::OutputHead(const ModelConfig& config, const model::ParameterTable& table,
                          const std::string& norm_prefix, const std::string& classifier)
    : config_(config),
      table_(table),
      gain_(index_of(table, norm_prefix + ".final_layer_norm.weight")),
      bias_(index_of(table, norm_prefix + ".final_layer_norm.bias")),
      weight_(index_of(table, classifier)) {}

template <typename T>
std::int64_t OutputHead<T>::stride() const {
  return round_up<std::int64_t>(config_.vocab, 8);
}

template <typename T>
void OutputHead<T>::plan(MemoryPlan& plan, std::int64_t rows) {
  hidden_ = plan.reserve<T>("activations", rows * config_.width);
  logits_ = plan.reserve<T>("logits", rows * stride());
}

template <typename T>
void OutputHead<T>::bind(const kernels::Queue& queue, const Arena& arena, const T* parameters) {
  queue_ = queue;
  arena_ = &arena;
  parameters_ = parameters;
}

template <typename T>
void OutputHead<T>::run(std::int64_t rows, const T* x) const {
  T* const hidden = arena_->at<T>(hidden_);
  final_norm(queue_, config_, table_, parameters_, gain_, bias_, rows, x, hidden);
  kernels::LinearForward<T> args;
  args.rows = rows;
  args.in = config_.width;
  args.out = config_.vocab;
  args.x = hidden;
  args.weight = parameters_ + table_[weight_].offset;
  args.y = logits();
  args.y_stride = stride();
  kernels::linear_forward(queue_, args);
}

#define TESSERA_OUTPUT_HEAD(T)                                                                 \
  template void final_norm(const kernels::Queue&, const ModelConfig&,                          \
                           const model::ParameterTable&, const T*, std::int64_t, std::int64_t, \
                           std::int64_t, const T*, T*);                                        \
  template class OutputHead<T>
TESSERA_OUTPUT_HEAD(float);
#ifdef TESSERA_HAS_CUDA
TESSERA_OUTPUT_HEAD(kernels::bf16);
#endif
#undef TESSERA_OUTPUT_HEAD

}  // namespace tessera::infer
