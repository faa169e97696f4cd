// The graphs that cuDNN knows as causal attention, forward and backward, on a fused QKV matrix.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "kernels/cuda/cudnn_graph.h"

namespace tessera::kernels::cuda {

struct CudnnAttentionShape {
  std::int64_t windows = 0, length = 0, heads = 0, head_size = 0;

  auto operator<=>(const CudnnAttentionShape&) const = default;
  // "windows 16 length 2048 heads 12 size 64", as in the keys of measured choices.
  std::string describe() const;
};

// What a plan's tensors are bound to. q, k, v point to the first of their components in qkv; dq,
// dk, dv likewise; scale, one and masked are host floats (head_size^-1/2, 1, -infinity); inner is
// workspace for windows * heads * length floats (sum of dout * out).
enum CudnnAttentionTensor : std::int64_t {
  kCudnnQ = 1,
  kCudnnK,
  kCudnnV,
  kCudnnOut,
  kCudnnLse,
  kCudnnDout,
  kCudnnDq,
  kCudnnDk,
  kCudnnDv,
  kCudnnInner,
  kCudnnScale,
  kCudnnOne,
  kCudnnMasked
};

CudnnPlan cudnn_attention_forward_plan(const CudnnAttentionShape& shape, cudnnHandle_t handle);
CudnnPlan cudnn_attention_backward_plan(const CudnnAttentionShape& shape, cudnnHandle_t handle);

}  // namespace tessera::kernels::cuda
