// Native attention for Hopper (sm_90a), head size 64, bf16: warpgroup matrix products; two kernels
// for the backward (dk and dv by key tile, dq by query tile), so that sums have one order and no
// atomics are needed. Semantics as flash_attention_* (attention_paths.h).
#pragma once

#include <cuda_runtime.h>

#include "kernels/window_attention.h"

namespace tessera::kernels::cuda {

// This device and build have the kernels, and they take the shape.
bool hopper_attention_takes(const WindowAttentionShape<bf16>& shape);
void hopper_attention_forward(const WindowAttentionForward<bf16>& args, cudaStream_t stream);
void hopper_attention_backward(const WindowAttentionBackward<bf16>& args, std::byte* workspace,
                               cudaStream_t stream);
std::int64_t hopper_attention_workspace(const WindowAttentionShape<bf16>& shape);
// The backward gives gradients before rotation, and dbias; otherwise those of the rotated q and k.
bool hopper_attention_turns_back(const WindowAttentionShape<bf16>& shape);
// The backward's kernels can run here; part of hopper_attention_takes.
bool hopper_backward_ready();

}  // namespace tessera::kernels::cuda
