// Causal multi-head attention over windows, long or tiny.
//
// For each window w and head h, with q [queries, d], k and v [keys, d], scale = d^-1/2 and
// o = keys - queries (query i stands at key position o + i):
//   s_ij = scale q_i . k_j  for j <= o + i (and key_mask[w, j] != 0 where a mask is given)
//   p_i = softmax(s_i), out_i = sum_j p_ij v_j, lse_i = log sum_j exp(s_ij)
// A query none of whose keys is allowed has out = 0 and lse = -inf.
// backward (FlashAttention's form, Dao et al. 2022): D_i = dout_i . out_i,
//   dv_j = sum_i p_ij dout_i, ds_ij = p_ij (dout_i . v_j - D_i), dq_i = scale sum_j ds_ij k_j,
//   dk_j = scale sum_i ds_ij q_i; dq, dk, dv are overwritten.
//
// Layout: row i of q for window w, head h starts at q + w * q_window + i * q_row + h * q_head
// (elements); k and v share kv_window, kv_row, kv_head; gradients have their tensors' strides. out
// and dout are [windows, queries, heads, d]; lse is [windows, heads, queries]. So training reads q,
// k, v from one fused QKV matrix, and decoding reads k and v from a cache.
//
// The CPU backend takes windows of up to kTinyWindow keys through register loops and longer ones
// through blocked matrix products. CUDA takes head sizes up to 256 and computes in float on the
// scalar units: up to four queries (decoding) at the pace of memory, more of them in tiles. Its
// backward keeps the D_i of as many windows at a time as fit Queue::workspace, at least one.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

inline constexpr std::int64_t kTinyWindow = 16;

struct AttentionShape {
  std::int64_t windows = 0, heads = 0, head_size = 0;
  std::int64_t queries = 0, keys = 0;  // a window; queries <= keys
  std::int64_t q_window = 0, q_row = 0, q_head = 0;
  std::int64_t kv_window = 0, kv_row = 0, kv_head = 0;
};

// Shape of training attention on a fused qkv matrix [windows * length, heads, 3, d].
AttentionShape fused_attention_shape(std::int64_t windows, std::int64_t length, std::int64_t heads,
                                     std::int64_t head_size);

template <typename T>
struct AttentionForward {
  AttentionShape shape;
  const T *q = nullptr, *k = nullptr, *v = nullptr;
  const std::uint8_t* key_mask = nullptr;  // [windows, keys] or null
  T* out = nullptr;
  Wide<T>* lse = nullptr;  // may be null where no backward follows
};

template <typename T>
struct AttentionBackward {
  AttentionShape shape;
  const T *q = nullptr, *k = nullptr, *v = nullptr;
  const std::uint8_t* key_mask = nullptr;
  const T* out = nullptr;
  const Wide<T>* lse = nullptr;
  const T* dout = nullptr;
  T *dq = nullptr, *dk = nullptr, *dv = nullptr;
};

namespace cpu {
template <typename T>
void attention_forward(const AttentionForward<T>& args);
template <typename T>
void attention_backward(const AttentionBackward<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void attention_forward(const Queue& queue, const AttentionForward<T>& args);
template <typename T>
void attention_backward(const Queue& queue, const AttentionBackward<T>& args);
}  // namespace cuda

template <typename T>
void attention_forward(const Queue& queue, const AttentionForward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::attention_forward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::attention_forward(args);
  refuse(queue, "attention_forward");
}

template <typename T>
void attention_backward(const Queue& queue, const AttentionBackward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::attention_backward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::attention_backward(args);
  refuse(queue, "attention_backward");
}

}  // namespace tessera::kernels
