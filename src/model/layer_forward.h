// One GPT-NeoX layer's forward computation, for training and for generation alike:
//
//   y = x + Attn(LN1(x)) + MLP(LN2(x)),   MLP(h) = W2 gelu(W1 h + b1) + b2
//
// Both branches read the same x (parallel residual). What differs between uses is how queries meet
// keys, so that step is the caller's: `attend(qkv, out)` rotates and attends.
#pragma once

#include "config/config.h"
#include "kernels/gelu.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "model/piece.h"

namespace tessera::model {

// Indices of a layer's parameters in the table.
struct LayerParameters {
  std::int64_t norm1_gain, norm1_bias, norm2_gain, norm2_bias;
  std::int64_t qkv_weight, qkv_bias, dense_weight, dense_bias;
  std::int64_t up_weight, up_bias, down_weight, down_bias;
};

// Declares a layer's parameters under "PREFIX.layers.N.", in published order.
LayerParameters add_layer_parameters(ParameterTable& table, const std::string& prefix,
                                     std::int64_t index, const ModelConfig& config);

// Indices of a layer's parameters that `table` already holds.
LayerParameters find_layer_parameters(const ParameterTable& table, const std::string& prefix,
                                      std::int64_t index);

// Where a layer's intermediate results lie, for `rows` rows.
template <typename T>
struct LayerBuffers {
  T *norm1, *norm2;     // [rows, D] each
  Wide<T>*mean, *rstd;  // [rows] each; may be null
  T* qkv;               // [rows, 3 D], rotated by attend()
  T* attended;          // [rows, D]
  T *up, *activated;    // [rows, F] each, F = ffn_mult D; may be the same memory
  T* joined;            // [rows, D], scratch
};

// The two norms of the parallel residual, from one read of x.
template <typename T>
void layer_norms(const kernels::Queue& queue, const ModelConfig& config, const LayerParameters& p,
                 const ParameterTable& table, const T* parameters, std::int64_t rows,
                 const LayerBuffers<T>& b, const T* x) {
  const auto at = [&](std::int64_t index) { return parameters + table[index].offset; };
  kernels::layer_norm_forward<T>(
      queue, {rows, config.width, config.eps, x, at(p.norm1_gain), at(p.norm1_bias), b.norm1,
              at(p.norm2_gain), at(p.norm2_bias), b.norm2, b.mean, b.rstd});
}

// b.qkv = qkv(norm1) of `rows` rows.
template <typename T>
void layer_qkv(const kernels::Queue& queue, const ModelConfig& config, const LayerParameters& p,
               const ParameterTable& table, const T* parameters, std::int64_t rows,
               const LayerBuffers<T>& b) {
  kernels::linear_forward<T>(queue, {rows, config.width, 3 * config.width, b.norm1,
                                     parameters + table[p.qkv_weight].offset,
                                     parameters + table[p.qkv_bias].offset, b.qkv});
}

// y = x + dense(attended) + down(gelu(up(norm2))), of b's attended and norm2: the joins ride on the
// products. y may be x.
template <typename T>
void layer_join(const kernels::Queue& queue, const ModelConfig& config, const LayerParameters& p,
                const ParameterTable& table, const T* parameters, std::int64_t rows,
                const LayerBuffers<T>& b, const T* x, T* y) {
  const std::int64_t width = config.width, ffn = config.ffn_mult * config.width;
  const auto linear = [&](std::int64_t in, std::int64_t out, const T* from, std::int64_t weight,
                          std::int64_t bias, T* to, const T* add = nullptr) {
    kernels::linear_forward<T>(queue, {rows, in, out, from, parameters + table[weight].offset,
                                       parameters + table[bias].offset, to, add});
  };
  // A product in place would round the sum of the first two terms once more.
  linear(width, width, b.attended, p.dense_weight, p.dense_bias, b.joined, x);
  linear(width, ffn, b.norm2, p.up_weight, p.up_bias, b.up);
  kernels::gelu_forward<T>(queue, {rows * ffn, b.up, b.activated});
  linear(ffn, width, b.activated, p.down_weight, p.down_bias, y, b.joined);
}

// y = x + dense(attend(qkv(norm1(x)))) + down(gelu(up(norm2(x)))). y may be x.
template <typename T, typename Attend>
void layer_forward(const kernels::Queue& queue, const ModelConfig& config, const LayerParameters& p,
                   const ParameterTable& table, const T* parameters, std::int64_t rows,
                   const LayerBuffers<T>& b, const T* x, T* y, Attend attend) {
  layer_norms(queue, config, p, table, parameters, rows, b, x);
  layer_qkv(queue, config, p, table, parameters, rows, b);
  attend(b.qkv, b.attended);
  layer_join(queue, config, p, table, parameters, rows, b, x, y);
}

// Width of the rotated part of each head.
inline std::int64_t rotary_width(const ModelConfig& config) {
  return static_cast<std::int64_t>(static_cast<double>(config.width / config.heads) *
                                   config.rotary_pct);
}

}  // namespace tessera::model
