// The CUDA implementations of window attention (kernels/window_attention.h), chosen between in
// window_attention.cpp; all deterministic. Beside these: Hopper's own (hopper_attention.h) and
// cuDNN's (cudnn_attention.h).
#pragma once

#include <cuda_runtime.h>

#include "kernels/window_attention.h"

namespace tessera::kernels::cuda {

// Fused with rotary, in registers: windows of 1 .. 8 positions, head sizes 32, 64, 128, bf16, 0,
// 16, 32, ... rotated components. qkv is read only; the backward rotates again and needs neither
// out nor lse, but workspace for dbias. Every pointer but lse's and dbias' is a multiple of 16.
// (tiny_attention_*.cu)
bool tiny_attention_takes(const WindowAttentionShape<bf16>& shape);
void tiny_attention_forward(const WindowAttentionForward<bf16>& args, cudaStream_t stream);
void tiny_attention_backward(const WindowAttentionBackward<bf16>& args, std::byte* workspace,
                             cudaStream_t stream);
std::int64_t tiny_attention_workspace(const WindowAttentionShape<bf16>& shape);

// Any length and head size up to 256, float and bf16, on the scalar units (attention.cpp): q and k
// of qkv are already rotated, dqkv is the gradient of the rotated ones.
template <typename T>
void flash_attention_forward(const WindowAttentionForward<T>& args, cudaStream_t stream);
template <typename T>
void flash_attention_backward(const WindowAttentionBackward<T>& args, std::byte* workspace,
                              cudaStream_t stream);
// Bytes of workspace that flash_attention_backward needs.
template <typename T>
std::int64_t flash_attention_workspace(const WindowAttentionShape<T>& shape);

// The same on the scalar units, any head size up to 256, in terms of kernels/attention.h
// (attention.cpp).
template <typename T>
void scalar_attention_forward(const WindowAttentionForward<T>& args, cudaStream_t stream);
template <typename T>
void scalar_attention_backward(const WindowAttentionBackward<T>& args, std::byte* workspace,
                               cudaStream_t stream);
template <typename T>
std::int64_t scalar_attention_workspace(const WindowAttentionShape<T>& shape);

}  // namespace tessera::kernels::cuda
