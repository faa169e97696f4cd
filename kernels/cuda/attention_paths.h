// The CUDA implementations of window attention (kernels/window_attention.h), chosen between in
// window_attention.cpp. All take bf16 (and float where said) and are deterministic.
#pragma once

#include <cuda_runtime.h>

#include "kernels/window_attention.h"

namespace tessera::kernels::cuda {

// Fused with rotary; windows of 1 .. kTinyWindowCuda positions, head sizes 16, 32, 48, 64, 96, 128,
// 256; bf16 and float. qkv is read only; the backward rotates again. (tiny_attention_*.cu)
template <typename T>
bool tiny_attention_takes(const WindowAttentionShape<T>& shape);
template <typename T>
void tiny_attention_forward(const WindowAttentionForward<T>& args, cudaStream_t stream);
template <typename T>
void tiny_attention_backward(const WindowAttentionBackward<T>& args, cudaStream_t stream);

// Long windows: q and k of qkv are already rotated, dqkv is the gradient of the rotated ones.
// bf16 on tensor cores (flash_attention_*.cu); float on the scalar units (attention.cpp). Any
// length, the same head sizes.
template <typename T>
void flash_attention_forward(const WindowAttentionForward<T>& args, cudaStream_t stream);
template <typename T>
void flash_attention_backward(const WindowAttentionBackward<T>& args, std::byte* workspace,
                              cudaStream_t stream);
// Bytes of workspace that flash_attention_backward needs.
template <typename T>
std::int64_t flash_attention_workspace(const WindowAttentionShape<T>& shape);

}  // namespace tessera::kernels::cuda
