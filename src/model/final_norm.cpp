#include "model/final_norm.h"

#include "kernels/layer_norm.h"

namespace tessera::model {

template <typename T>
FinalNorm<T>::FinalNorm(const ModelConfig& config, ParameterTable& table, const std::string& prefix,
                        std::string label, std::int64_t rows_a_sequence)
    : config_(config),
      label_(std::move(label)),
      rows_a_sequence_(rows_a_sequence),
      gain_(table.add(prefix + ".final_layer_norm.weight", {config.width}, Initial::ones)),
      bias_(table.add(prefix + ".final_layer_norm.bias", {config.width}, Initial::zeros)) {}

template <typename T>
Boundary FinalNorm<T>::output(std::int64_t sequences) const {
  return {sequences * rows_a_sequence_, config_.width};
}

template <typename T>
void FinalNorm<T>::plan(std::int64_t sequences, PiecePlan plan) {
  mean_ = plan.saved.template reserve<Wide<T>>("activations", output(sequences).rows);
  rstd_ = plan.saved.template reserve<Wide<T>>("activations", output(sequences).rows);
}

template <typename T>
void FinalNorm<T>::forward(const Pass<T>& pass, const T* in, T* out) {
  kernels::LayerNormForward<T> args;
  args.rows = output(pass.batch.sequences).rows;
  args.width = config_.width;
  args.eps = config_.eps;
  args.x = in;
  args.gain1 = pass.parameter(gain_);
  args.bias1 = pass.parameter(bias_);
  args.y1 = out;
  args.mean = pass.template kept<Wide<T>>(mean_);
  args.rstd = pass.template kept<Wide<T>>(rstd_);
  kernels::layer_norm_forward(pass.queue, args);
}

template <typename T>
void FinalNorm<T>::backward(const Pass<T>& pass, const T* in, const T* dout, T* din) {
  kernels::LayerNormBackward<T> args;
  args.rows = output(pass.batch.sequences).rows;
  args.width = config_.width;
  args.x = in;
  args.mean = pass.template kept<Wide<T>>(mean_);
  args.rstd = pass.template kept<Wide<T>>(rstd_);
  args.gain1 = pass.parameter(gain_);
  args.dy1 = dout;
  args.dgain1 = pass.gradient(gain_);
  args.dbias1 = pass.gradient(bias_);
  args.dx = din;
  kernels::layer_norm_backward(pass.queue, args);
}

template class FinalNorm<float>;
template class FinalNorm<double>;
template class FinalNorm<kernels::bf16>;

}  // namespace tessera::model
