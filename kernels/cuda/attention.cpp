// General attention on CUDA: which kernel takes a shape, and how many windows a backward takes at a
// time; and long windows of training in terms of it.
#include "kernels/attention.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "kernels/cuda/attention_kernels.cuh"
#include "kernels/cuda/attention_paths.h"

namespace tessera::kernels::cuda {
namespace {

void check(const AttentionShape& s) {
  TESSERA_CHECK(s.windows >= 0 && s.heads >= 0 && s.head_size > 0);
  TESSERA_CHECK(s.queries >= 0 && s.queries <= s.keys);
  if (s.head_size > kMostHeadSize)
    throw Error(Category::device, "attention: head size " + std::to_string(s.head_size) +
                                      " is above " + std::to_string(kMostHeadSize) +
                                      ", the most that the CUDA kernels take");
}

// Bytes of D_i of one window.
std::int64_t window_bytes(std::int64_t heads, std::int64_t queries) {
  return heads * queries * static_cast<std::int64_t>(sizeof(float));
}

// The arguments of windows first .. first + count - 1.
template <typename T>
AttentionBackward<T> part(const AttentionBackward<T>& args, std::int64_t first,
                          std::int64_t count) {
  const AttentionShape& s = args.shape;
  const std::int64_t q = first * s.q_window, kv = first * s.kv_window;
  const std::int64_t rows = first * s.queries * s.heads;
  AttentionBackward<T> part = args;
  part.shape.windows = count;
  part.q += q, part.dq += q;
  part.k += kv, part.v += kv, part.dk += kv, part.dv += kv;
  part.out += rows * s.head_size, part.dout += rows * s.head_size;
  part.lse += rows;
  if (part.key_mask != nullptr) part.key_mask += first * s.keys;
  return part;
}

}  // namespace

template <typename T>
void attention_forward(const Queue& queue, const AttentionForward<T>& args) {
  const AttentionShape& s = args.shape;
  check(s);
  if (s.windows * s.heads * s.queries == 0) return;
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  if (s.queries <= kFewQueries)
    attention_forward_few(args, stream);
  else
    attention_forward_tiles(args, stream);
}

template <typename T>
void attention_backward(const Queue& queue, const AttentionBackward<T>& args) {
  const AttentionShape& s = args.shape;
  check(s);
  if (s.windows * s.heads * s.keys == 0) return;
  const std::int64_t each = window_bytes(s.heads, s.queries);
  const std::int64_t at_once = each == 0 ? s.windows : queue.workspace_bytes / each;
  if (at_once == 0)
    throw Error(Category::device, "attention_backward: needs " + std::to_string(each) +
                                      " bytes of workspace, the queue has " +
                                      std::to_string(queue.workspace_bytes));
  auto* delta = reinterpret_cast<float*>(queue.workspace);
  for (std::int64_t w = 0; w < s.windows; w += at_once)
    attention_backward_tiles(part(args, w, std::min(at_once, s.windows - w)), delta,
                             static_cast<cudaStream_t>(queue.stream));
}

template void attention_forward(const Queue&, const AttentionForward<float>&);
template void attention_forward(const Queue&, const AttentionForward<bf16>&);
template void attention_backward(const Queue&, const AttentionBackward<float>&);
template void attention_backward(const Queue&, const AttentionBackward<bf16>&);

// Long windows of training on the scalar units.

template <typename T>
std::int64_t scalar_attention_workspace(const WindowAttentionShape<T>& s) {
  const std::int64_t each = window_bytes(s.heads, s.length);
  return std::min(s.windows * each, std::max(kWorkspaceBytes, each));
}

template <typename T>
void scalar_attention_forward(const WindowAttentionForward<T>& args, cudaStream_t stream) {
  const WindowAttentionShape<T>& s = args.shape;
  const T *q = args.qkv, *k = q + s.head_size, *v = k + s.head_size;
  attention_forward<T>({Device::cuda, stream},
                       {fused_attention_shape(s.windows, s.length, s.heads, s.head_size), q, k, v,
                        s.key_mask, args.out, args.lse});
}

template <typename T>
void scalar_attention_backward(const WindowAttentionBackward<T>& args, std::byte* workspace,
                               cudaStream_t stream) {
  const WindowAttentionShape<T>& s = args.shape;
  const T *q = args.qkv, *k = q + s.head_size, *v = k + s.head_size;
  T *dq = args.dqkv, *dk = dq + s.head_size, *dv = dk + s.head_size;
  attention_backward<T>({Device::cuda, stream, workspace, scalar_attention_workspace(s)},
                        {fused_attention_shape(s.windows, s.length, s.heads, s.head_size), q, k, v,
                         s.key_mask, args.out, args.lse, args.dout, dq, dk, dv});
}

#define TESSERA_SCALAR_ATTENTION(T)                                                       \
  template std::int64_t scalar_attention_workspace(const WindowAttentionShape<T>&);       \
  template void scalar_attention_forward(const WindowAttentionForward<T>&, cudaStream_t); \
  template void scalar_attention_backward(const WindowAttentionBackward<T>&, std::byte*,  \
                                          cudaStream_t)

TESSERA_SCALAR_ATTENTION(float);
TESSERA_SCALAR_ATTENTION(bf16);
#undef TESSERA_SCALAR_ATTENTION

template <>
std::int64_t flash_attention_workspace<float>(const WindowAttentionShape<float>& shape) {
  return scalar_attention_workspace(shape);
}
template <>
void flash_attention_forward<float>(const WindowAttentionForward<float>& args,
                                    cudaStream_t stream) {
  scalar_attention_forward(args, stream);
}
template <>
void flash_attention_backward<float>(const WindowAttentionBackward<float>& args,
                                     std::byte* workspace, cudaStream_t stream) {
  scalar_attention_backward(args, workspace, stream);
}

}  // namespace tessera::kernels::cuda
