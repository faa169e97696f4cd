// Training attention: rotary positions, then causal attention inside each window, on a fused QKV
// matrix. Composes kernels/rotary.h and kernels/attention.h (their equations).
//
// qkv [windows * length, heads, 3, d]; cos, sin [length, rotary / 2] (rotary_tables; positions
// 0 .. length - 1 in every window); out, dout [windows * length, heads, d]; lse [windows, heads,
// length] (natural logarithm). dqkv, shaped as qkv, is the gradient of the qkv that was given to
// the forward, before rotation; it is overwritten. dbias [heads, 3, d], where given, gets the sum
// of dqkv's rows added: the gradient of the bias that was added to make qkv. A key_mask, where
// given, says which rows are keys; the first row of every window must be one. Masked rows still
// query.
//
// Whether the forward leaves q and k rotated in place is the backend's private matter, so the
// backward takes qkv exactly as the forward left it, and a forward that repeats an earlier one on
// the same qkv (recomputation) says so with `again`.
//
// CUDA, bf16: windows of up to 8 positions run in one kernel fused with the rotation, at memory
// speed (qkv is not changed); longer ones are rotated in place and run the native kernels
// (warpgroup products on Hopper at head size 64, scalar units elsewhere) or cuDNN's, as `choice`
// says. `automatic` takes what was measured for the shape (kernels/algorithms.h). fp32 is always
// native, and so are longer windows with a key_mask, on the scalar units.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

enum class AttentionKernel { automatic, native, cudnn };

template <typename T>
struct WindowAttentionShape {
  std::int64_t windows = 0, length = 0, heads = 0, head_size = 0;
  std::int64_t rotary = 0;  // rotated components of a head, even
  const Wide<T>*cos = nullptr, *sin = nullptr;
  AttentionKernel choice = AttentionKernel::automatic;
  const std::uint8_t* key_mask = nullptr;  // [windows, length], 0 = no key; or null
};

template <typename T>
struct WindowAttentionForward {
  WindowAttentionShape<T> shape;
  T* qkv = nullptr;
  T* out = nullptr;
  Wide<T>* lse = nullptr;
  bool again = false;
};

template <typename T>
struct WindowAttentionBackward {
  WindowAttentionShape<T> shape;
  const T* qkv = nullptr;
  const T* out = nullptr;
  const Wide<T>* lse = nullptr;
  const T* dout = nullptr;
  T* dqkv = nullptr;
  Wide<T>* dbias = nullptr;
};

namespace cpu {
template <typename T>
void window_attention_forward(const WindowAttentionForward<T>& args);
template <typename T>
void window_attention_backward(const WindowAttentionBackward<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void window_attention_forward(const Queue& queue, const WindowAttentionForward<T>& args);
template <typename T>
void window_attention_backward(const Queue& queue, const WindowAttentionBackward<T>& args);
template <typename T>
std::int64_t window_attention_workspace(const Queue& queue, const WindowAttentionShape<T>& shape);
}  // namespace cuda

// Bytes of Queue::workspace that forward and backward of this shape need (0 on the CPU), for the
// kernel that `choice` and the recorded measurement select, or the most of the candidates.
template <typename T>
std::int64_t window_attention_workspace(const Queue& queue, const WindowAttentionShape<T>& shape) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::window_attention_workspace(queue, shape);
  return 0;
}

template <typename T>
void window_attention_forward(const Queue& queue, const WindowAttentionForward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::window_attention_forward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::window_attention_forward(args);
  refuse(queue, "window_attention_forward");
}

template <typename T>
void window_attention_backward(const Queue& queue, const WindowAttentionBackward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::window_attention_backward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::window_attention_backward(args);
  refuse(queue, "window_attention_backward");
}

}  // namespace tessera::kernels
