// One byte a row of every window, a thread each.
#include "core/targets.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/key_mask.h"

namespace tessera::kernels::cuda {
namespace {

__global__ void fill(const KeyMask a, std::int64_t total) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t length = a.prefix + a.tokens;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const std::int64_t window = i / length, token = i % length - a.prefix;
    const std::int64_t at =
        window / a.groups * a.batch_stride + window % a.groups * a.group_stride + token;
    a.mask[i] = token < 0 || a.targets[at] != kPadding;
  }
}

}  // namespace

void key_mask(const KeyMask& args, void* stream) {
  const std::int64_t total = args.batches * args.groups * (args.prefix + args.tokens);
  if (total <= 0) return;
  fill<<<grid_blocks(total), kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(args, total);
  check_launch("key_mask");
}

}  // namespace tessera::kernels::cuda
