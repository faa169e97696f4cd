// cuDNN's fused causal attention, bf16, on a fused QKV matrix: execution plans kept by shape.
//
// The deterministic backward sends windows * heads * length^2 bf16 values through its workspace. So
// it is run for as many windows at a time (a divisor of all of them) as stay within
// kCudnnBackwardBytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <cuda_runtime.h>

#include "kernels/cuda/cudnn_attention_graphs.h"
#include "kernels/window_attention.h"

namespace tessera::kernels::cuda {

enum class AttentionPass { forward, backward };

// 256 MiB of such values (two windows of length 2048 with 16 heads) and the sums beside them.
inline constexpr std::int64_t kCudnnBackwardBytes = std::int64_t{264} << 20;

class CudnnAttention {
 public:
  CudnnAttention() = default;
  ~CudnnAttention();
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  // Why cuDNN cannot run the shape; empty where it can. Builds the plan at the first question,
  // which loads kernels: not while a stream is being captured.
  const std::string& refusal(AttentionPass pass, const CudnnAttentionShape& shape);
  // Of a shape that it can run.
  std::int64_t workspace_bytes(AttentionPass pass, const CudnnAttentionShape& shape);

  // q and k of qkv are rotated; dqkv is the gradient of the rotated ones. Error{device} where cuDNN
  // refuses the shape or the queue's workspace is too small.
  void forward(const Queue& queue, const WindowAttentionForward<bf16>& args);
  void backward(const Queue& queue, const WindowAttentionBackward<bf16>& args);

 private:
  struct Entry {
    std::shared_ptr<const CudnnPlan> plan;  // for `windows` windows; null where refused
    std::int64_t windows = 0;
    std::int64_t inner_bytes = 0;  // of the workspace, after the plan's
    std::string refusal;
    std::int64_t workspace_bytes() const;
  };

  cudnnHandle_t handle();
  Entry build(AttentionPass pass, const CudnnAttentionShape& shape);
  Entry build_backward(const CudnnAttentionShape& shape);
  const Entry& entry(AttentionPass pass, const CudnnAttentionShape& shape);
  // The entry, ready to run on the queue.
  const Entry& prepare(AttentionPass pass, const CudnnAttentionShape& shape, const Queue& queue);

  cudnnHandle_t handle_ = nullptr;  // opened at first use, on the device that is current then
  std::map<std::pair<AttentionPass, CudnnAttentionShape>, Entry> entries_;
};

CudnnAttentionShape cudnn_shape(const WindowAttentionShape<bf16>& shape);

}  // namespace tessera::kernels::cuda
