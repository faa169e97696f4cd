// Window attention on CUDA: tiny windows in one fused kernel; longer ones rotated in place, then
// the native kernel or cuDNN's.
#include "kernels/window_attention.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/cuda/attention_choice.h"
#include "kernels/cuda/attention_paths.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/hopper_attention.h"
#include "kernels/rotary.h"

namespace tessera::kernels::cuda {
namespace {

template <typename T>
bool is_empty(const WindowAttentionShape<T>& shape) {
  return shape.windows == 0 || shape.length == 0 || shape.heads == 0 || shape.head_size == 0;
}

template <typename T>
void rotate(const Queue& queue, const WindowAttentionShape<T>& shape, T* qkv, bool backward) {
  if (shape.rotary == 0) return;
  Rotary<T> args;
  args.rows = shape.windows * shape.length;
  args.heads = shape.heads;
  args.head_size = shape.head_size;
  args.rotary = shape.rotary;
  args.length = shape.length;
  args.cos = shape.cos;
  args.sin = shape.sin;
  args.qkv = qkv;
  args.backward = backward;
  kernels::rotary(queue, args);
}

template <typename T>
std::int64_t native_workspace(const WindowAttentionShape<T>& shape) {
  std::int64_t bytes = flash_attention_workspace(shape);
  if constexpr (std::is_same_v<T, bf16>) bytes = std::max(bytes, hopper_attention_workspace(shape));
  return bytes;
}

template <typename T>
void native_forward(const Queue& queue, const WindowAttentionForward<T>& args) {
  if constexpr (std::is_same_v<T, bf16>)
    if (hopper_attention_takes(args.shape))
      return hopper_attention_forward(args, static_cast<cudaStream_t>(queue.stream));
  flash_attention_forward(args, static_cast<cudaStream_t>(queue.stream));
}

template <typename T>
void add_bias(const Queue& queue, const WindowAttentionBackward<T>& args) {
  const std::int64_t columns = 3 * args.shape.heads * args.shape.head_size;
  if (args.dbias)
    add_column_sums(queue, args.shape.windows * args.shape.length, columns, columns,
                    static_cast<const T*>(args.dqkv), args.dbias);
}

void need_workspace(const Queue& queue, std::int64_t needed) {
  if (needed > queue.workspace_bytes)
    throw Error(Category::device, "window_attention_backward: needs " + std::to_string(needed) +
                                      " bytes of workspace, the queue has " +
                                      std::to_string(queue.workspace_bytes));
}

template <typename T>
void native_backward(const Queue& queue, const WindowAttentionBackward<T>& args) {
  need_workspace(queue, native_workspace(args.shape));
  if constexpr (std::is_same_v<T, bf16>)
    if (hopper_attention_takes(args.shape))
      return hopper_attention_backward(args, queue.workspace,
                                       static_cast<cudaStream_t>(queue.stream));
  flash_attention_backward(args, queue.workspace, static_cast<cudaStream_t>(queue.stream));
}

}  // namespace

template <typename T>
void window_attention_forward(const Queue& queue, const WindowAttentionForward<T>& args) {
  if (is_empty(args.shape)) return;
  if constexpr (std::is_same_v<T, bf16>)
    if (tiny_attention_takes(args.shape))
      return tiny_attention_forward(args, static_cast<cudaStream_t>(queue.stream));
  if (!args.again) rotate(queue, args.shape, args.qkv, false);
  if (args.shape.key_mask)
    return scalar_attention_forward(args, static_cast<cudaStream_t>(queue.stream));
  if constexpr (std::is_same_v<T, bf16>) {
    const auto run = [&](AttentionPath path) {
      if (path == AttentionPath::cudnn) return cudnn_attention(queue).forward(queue, args);
      native_forward(queue, args);
    };
    run(choose_attention(queue, AttentionPass::forward, args.shape.choice, cudnn_shape(args.shape),
                         run));
  } else {
    native_forward(queue, args);
  }
}

template <typename T>
void window_attention_backward(const Queue& queue, const WindowAttentionBackward<T>& args) {
  if (is_empty(args.shape)) return;
  if constexpr (std::is_same_v<T, bf16>)
    if (tiny_attention_takes(args.shape)) {
      need_workspace(queue, tiny_attention_workspace(args.shape));
      return tiny_attention_backward(args, queue.workspace,
                                     static_cast<cudaStream_t>(queue.stream));
    }
  if (args.shape.key_mask) {
    need_workspace(queue, scalar_attention_workspace(args.shape));
    scalar_attention_backward(args, queue.workspace, static_cast<cudaStream_t>(queue.stream));
    rotate(queue, args.shape, args.dqkv, true);
    return add_bias(queue, args);
  }
  const auto native = [&] {
    native_backward(queue, args);
    if constexpr (std::is_same_v<T, bf16>)
      if (hopper_attention_takes(args.shape) && hopper_attention_turns_back(args.shape)) return;
    rotate(queue, args.shape, args.dqkv, true);
    add_bias(queue, args);
  };
  if constexpr (std::is_same_v<T, bf16>) {
    const auto run = [&](AttentionPath path) {
      if (path == AttentionPath::native) return native();
      cudnn_attention(queue).backward(queue, args);
      rotate(queue, args.shape, args.dqkv, true);
      add_bias(queue, args);
    };
    run(choose_attention(queue, AttentionPass::backward, args.shape.choice, cudnn_shape(args.shape),
                         run));
  } else {
    native();
  }
}

template <typename T>
std::int64_t window_attention_workspace(const Queue& queue, const WindowAttentionShape<T>& shape) {
  if (is_empty(shape)) return 0;
  std::int64_t most = 0;
  if constexpr (std::is_same_v<T, bf16>) {
    if (tiny_attention_takes(shape)) return tiny_attention_workspace(shape);
    const CudnnAttentionShape key = cudnn_shape(shape);
    for (const AttentionPass pass : {AttentionPass::forward, AttentionPass::backward}) {
      const AttentionPaths paths = attention_paths(queue, pass, shape.choice, key);
      if (paths.native && pass == AttentionPass::backward)
        most = std::max(most, native_workspace(shape));
      if (paths.cudnn) most = std::max(most, cudnn_attention(queue).workspace_bytes(pass, key));
    }
  } else {
    most = native_workspace(shape);
  }
  return most;
}

#define TESSERA_WINDOW_ATTENTION(T)                                                            \
  template void window_attention_forward<T>(const Queue&, const WindowAttentionForward<T>&);   \
  template void window_attention_backward<T>(const Queue&, const WindowAttentionBackward<T>&); \
  template std::int64_t window_attention_workspace<T>(const Queue&, const WindowAttentionShape<T>&)

TESSERA_WINDOW_ATTENTION(float);
TESSERA_WINDOW_ATTENTION(bf16);
#undef TESSERA_WINDOW_ATTENTION

}  // namespace tessera::kernels::cuda
