// cuDNN attention: the handle, plans by shape, and binding the arguments.
#include "kernels/cuda/cudnn_attention.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace tessera::kernels::cuda {
namespace {

std::string title(AttentionPass pass, const CudnnAttentionShape& shape) {
  return std::string("attention ") + (pass == AttentionPass::forward ? "forward " : "backward ") +
         shape.describe();
}

// What cuDNN is known not to run, or to run wrongly; the rest it says itself.
std::string known_refusal(AttentionPass pass, const CudnnAttentionShape& shape) {
  constexpr std::size_t kFirstVersion = 91100;       // earlier ones had faults in the backward
  constexpr std::size_t kLastUnpaddedFault = 91500;  // backward of lengths with a partial tile
  const std::size_t version = cudnnGetVersion();
  if (version < kFirstVersion) return "cuDNN " + std::to_string(version) + " is too old";
  if (shape.head_size % 8 != 0 || shape.head_size > 128)
    return "the head size is not a multiple of 8 up to 128";
  if (pass == AttentionPass::backward && shape.length == 1) return "one position a window";
  if (pass == AttentionPass::backward && version <= kLastUnpaddedFault && shape.length % 128 != 0)
    return "the backward of cuDNN " + std::to_string(version) + " needs lengths in steps of 128";
  return "";
}

std::int64_t round_up(std::int64_t bytes) {
  constexpr std::int64_t kStep = 256;
  return (bytes + kStep - 1) / kStep * kStep;
}

// cuDNN's kernels read and write 16 bytes at a time.
void need_alignment(const CudnnAttentionShape& shape, AttentionPass pass,
                    std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers)
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0)
      throw Error(Category::device, "cuDNN " + title(pass, shape) +
                                        ": a matrix does not start at a multiple of 16 bytes");
}

// The interface takes no pointers to const, also for what is only read.
template <typename T>
void* writable(const T* pointer) {
  return const_cast<T*>(pointer);
}

}  // namespace

CudnnAttentionShape cudnn_shape(const WindowAttentionShape<bf16>& shape) {
  return {shape.windows, shape.length, shape.heads, shape.head_size};
}

CudnnAttention::~CudnnAttention() {
  entries_.clear();
  if (handle_ != nullptr) cudnnDestroy(handle_);
}

std::int64_t CudnnAttention::Entry::workspace_bytes() const {
  return round_up(plan->workspace_bytes()) + inner_bytes;
}

cudnnHandle_t CudnnAttention::handle() {
  if (handle_ == nullptr) check_cudnn(cudnnCreate(&handle_), "open");
  return handle_;
}

CudnnAttention::Entry CudnnAttention::build_backward(const CudnnAttentionShape& shape) {
  // The workspace is all but proportional to the windows: one plan says how many fit, and if its
  // rounding was in the way the next fewer are tried.
  CudnnAttentionShape part = shape;
  for (;;) {
    Entry entry;
    entry.plan = std::make_shared<const CudnnPlan>(cudnn_attention_backward_plan(part, handle()));
    entry.windows = part.windows;
    entry.inner_bytes = round_up(part.windows * shape.heads * shape.length *
                                 static_cast<std::int64_t>(sizeof(float)));
    const std::int64_t needed = entry.workspace_bytes();
    if (needed <= kCudnnBackwardBytes || part.windows == 1) return entry;
    const std::int64_t fitting = part.windows * kCudnnBackwardBytes / needed;
    do {
      --part.windows;
    } while (part.windows > 1 && (part.windows > fitting || shape.windows % part.windows != 0));
  }
}

CudnnAttention::Entry CudnnAttention::build(AttentionPass pass, const CudnnAttentionShape& shape) {
  Entry entry;
  entry.refusal = known_refusal(pass, shape);
  if (!entry.refusal.empty()) return entry;
  try {
    if (pass == AttentionPass::backward) return build_backward(shape);
    entry.plan = std::make_shared<const CudnnPlan>(cudnn_attention_forward_plan(shape, handle()));
    entry.windows = shape.windows;
  } catch (const Error& error) {
    entry.refusal = error.what();
  }
  return entry;
}

const CudnnAttention::Entry& CudnnAttention::entry(AttentionPass pass,
                                                   const CudnnAttentionShape& shape) {
  const auto key = std::make_pair(pass, shape);
  const auto found = entries_.find(key);
  if (found != entries_.end()) return found->second;
  return entries_.emplace(key, build(pass, shape)).first->second;
}

const std::string& CudnnAttention::refusal(AttentionPass pass, const CudnnAttentionShape& shape) {
  return entry(pass, shape).refusal;
}

std::int64_t CudnnAttention::workspace_bytes(AttentionPass pass, const CudnnAttentionShape& shape) {
  const Entry& found = entry(pass, shape);
  TESSERA_CHECK(found.refusal.empty());
  return found.workspace_bytes();
}

const CudnnAttention::Entry& CudnnAttention::prepare(AttentionPass pass,
                                                     const CudnnAttentionShape& shape,
                                                     const Queue& queue) {
  const Entry& found = entry(pass, shape);
  if (!found.refusal.empty())
    throw Error(Category::device, "cuDNN " + title(pass, shape) + ": " + found.refusal);
  if (found.workspace_bytes() > queue.workspace_bytes)
    throw Error(Category::device, "cuDNN " + title(pass, shape) + ": needs " +
                                      std::to_string(found.workspace_bytes()) +
                                      " bytes of workspace, the queue has " +
                                      std::to_string(queue.workspace_bytes));
  check_cudnn(cudnnSetStream(handle(), static_cast<cudaStream_t>(queue.stream)),
              title(pass, shape) + ", stream");
  return found;
}

void CudnnAttention::forward(const Queue& queue, const WindowAttentionForward<bf16>& args) {
  const CudnnAttentionShape shape = cudnn_shape(args.shape);
  const Entry& found = prepare(AttentionPass::forward, shape, queue);
  need_alignment(shape, AttentionPass::forward, {args.qkv, args.out});
  float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_size));
  float masked = -std::numeric_limits<float>::infinity();
  found.plan->run(handle_,
                  {{kCudnnQ, args.qkv},
                   {kCudnnK, args.qkv + shape.head_size},
                   {kCudnnV, args.qkv + 2 * shape.head_size},
                   {kCudnnOut, args.out},
                   {kCudnnLse, args.lse},
                   {kCudnnScale, &scale},
                   {kCudnnMasked, &masked}},
                  queue.workspace);
}

void CudnnAttention::backward(const Queue& queue, const WindowAttentionBackward<bf16>& args) {
  const CudnnAttentionShape shape = cudnn_shape(args.shape);
  const Entry& found = prepare(AttentionPass::backward, shape, queue);
  need_alignment(shape, AttentionPass::backward, {args.qkv, args.out, args.dout, args.dqkv});
  float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_size));
  float one = 1;
  float masked = -std::numeric_limits<float>::infinity();
  std::byte* inner = queue.workspace + round_up(found.plan->workspace_bytes());
  for (std::int64_t window = 0; window < shape.windows; window += found.windows) {
    const std::int64_t rows = window * shape.length * shape.heads;
    const bf16* qkv = args.qkv + rows * 3 * shape.head_size;
    bf16* dqkv = args.dqkv + rows * 3 * shape.head_size;
    found.plan->run(handle_,
                    {{kCudnnQ, writable(qkv)},
                     {kCudnnK, writable(qkv + shape.head_size)},
                     {kCudnnV, writable(qkv + 2 * shape.head_size)},
                     {kCudnnOut, writable(args.out + rows * shape.head_size)},
                     {kCudnnLse, writable(args.lse + rows)},
                     {kCudnnDout, writable(args.dout + rows * shape.head_size)},
                     {kCudnnDq, dqkv},
                     {kCudnnDk, dqkv + shape.head_size},
                     {kCudnnDv, dqkv + 2 * shape.head_size},
                     {kCudnnInner, inner},
                     {kCudnnScale, &scale},
                     {kCudnnOne, &one},
                     {kCudnnMasked, &masked}},
                    queue.workspace);
  }
}

}  // namespace tessera::kernels::cuda
