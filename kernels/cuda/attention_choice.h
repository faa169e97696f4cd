// Which implementation runs the long windows of a shape: what was asked for, what was recorded, or
// what is faster. Forward and backward choose separately: both implementations keep lse alike.
#pragma once

#include <functional>
#include <string>

#include "kernels/cuda/cudnn_attention.h"
#include "kernels/window_attention.h"

namespace tessera::kernels::cuda {

enum class AttentionPath { native, cudnn };

// Error{device} where cuDNN is asked for and refuses. `run` runs the given path on the arguments,
// any number of times; it is called to measure only.
AttentionPath choose_attention(const Queue& queue, AttentionPass pass, AttentionKernel choice,
                               const CudnnAttentionShape& shape,
                               const std::function<void(AttentionPath)>& run);

// The paths that choose_attention may take: both while that is yet to be chosen. Without libraries
// (planning where there is no device to ask) native alone.
struct AttentionPaths {
  bool native = false, cudnn = false;
};
AttentionPaths attention_paths(const Queue& queue, AttentionPass pass, AttentionKernel choice,
                               const CudnnAttentionShape& shape);

// The queue's, opened at first use. Needs Queue::libraries.
CudnnAttention& cudnn_attention(const Queue& queue);

}  // namespace tessera::kernels::cuda
