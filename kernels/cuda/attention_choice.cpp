// Choosing between the native kernels and cuDNN's: recorded, measured, or by rule.
#include "kernels/cuda/attention_choice.h"

#include <array>

#include "core/error.h"
#include "kernels/cuda/libraries.cuh"
#include "kernels/cuda/timing.h"

namespace tessera::kernels::cuda {
namespace {

constexpr const char* kNative = "native";
constexpr const char* kCudnn = "cudnn";

const char* name(AttentionPath path) {
  return path == AttentionPath::cudnn ? kCudnn : kNative;
}

std::string key(AttentionPass pass, const CudnnAttentionShape& shape) {
  return std::string("attention ") + (pass == AttentionPass::forward ? "forward" : "backward") +
         " bf16 " + shape.describe();
}

void need_cudnn(const Queue& queue, AttentionPass pass, const CudnnAttentionShape& shape) {
  const std::string& refusal = cudnn_attention(queue).refusal(pass, shape);
  if (!refusal.empty())
    throw Error(Category::device, "cuDNN was chosen for " + key(pass, shape) + ": " + refusal);
}

// The path that is settled without measuring: asked for, recorded, or the only one; else null.
const AttentionPath* settled(const Queue& queue, AttentionPass pass, AttentionKernel choice,
                             const CudnnAttentionShape& shape) {
  static constexpr AttentionPath kPathNative = AttentionPath::native;
  static constexpr AttentionPath kPathCudnn = AttentionPath::cudnn;
  if (choice == AttentionKernel::native) return &kPathNative;
  if (choice == AttentionKernel::cudnn) {
    need_cudnn(queue, pass, shape);
    return &kPathCudnn;
  }
  if (queue.libraries == nullptr) return &kPathNative;
  if (const Algorithms::Choice* recorded = queue.libraries->algorithms.find(key(pass, shape))) {
    if (recorded->value == kNative) return &kPathNative;
    if (recorded->value != kCudnn)
      throw Error(Category::data, "recorded algorithm of \"" + key(pass, shape) + "\" is \"" +
                                      recorded->value + "\", expected native or cudnn");
    need_cudnn(queue, pass, shape);
    return &kPathCudnn;
  }
  return cudnn_attention(queue).refusal(pass, shape).empty() ? nullptr : &kPathNative;
}

void record(const Queue& queue, const std::string& key, AttentionPath path, double microseconds) {
  if (queue.libraries != nullptr && queue.libraries->algorithms.find(key) == nullptr)
    queue.libraries->algorithms.set(key, {name(path), microseconds});
}

}  // namespace

CudnnAttention& cudnn_attention(const Queue& queue) {
  if (queue.libraries == nullptr)
    throw Error(Category::device, "cuDNN attention: the queue has no libraries opened");
  auto& attention = queue.libraries->cudnn_attention;
  if (!attention) attention = std::make_shared<CudnnAttention>();
  return *attention;
}

AttentionPath choose_attention(const Queue& queue, AttentionPass pass, AttentionKernel choice,
                               const CudnnAttentionShape& shape,
                               const std::function<void(AttentionPath)>& run) {
  if (const AttentionPath* path = settled(queue, pass, choice, shape)) {
    if (choice == AttentionKernel::automatic) record(queue, key(pass, shape), *path, 0);
    return *path;
  }
  AttentionPath chosen = AttentionPath::cudnn;
  double least = 0;
  if (may_measure(queue)) {
    constexpr std::array kPaths = {AttentionPath::native, AttentionPath::cudnn};
    const Fastest fastest = find_fastest(static_cast<cudaStream_t>(queue.stream), 2, [&](int i) {
      run(kPaths[static_cast<std::size_t>(i)]);
      return true;
    });
    chosen = kPaths[static_cast<std::size_t>(fastest.candidate)];
    least = fastest.microseconds;
  }
  record(queue, key(pass, shape), chosen, least);
  return chosen;
}

AttentionPaths attention_paths(const Queue& queue, AttentionPass pass, AttentionKernel choice,
                               const CudnnAttentionShape& shape) {
  if (queue.libraries == nullptr) return {true, false};
  if (const AttentionPath* path = settled(queue, pass, choice, shape))
    return {*path == AttentionPath::native, *path == AttentionPath::cudnn};
  return {true, true};
}

}  // namespace tessera::kernels::cuda
