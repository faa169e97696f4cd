// Sums of squares of a list of slices: a block a slice in double, then a block a tensor.
#include "kernels/cuda/reduce.cuh"
#include "kernels/squared_norms.h"

namespace tessera::kernels::cuda {
namespace {

__global__ void norm_of_slices(const TensorSlice* __restrict__ slices, const float* __restrict__ x,
                               double* __restrict__ partial) {
  __shared__ double scratch[32];
  const TensorSlice slice = slices[blockIdx.x];
  const float* from = x + slice.offset;
  const bool vectors = (reinterpret_cast<std::uintptr_t>(from) & 15) == 0;
  const std::int64_t whole = vectors ? slice.count / 4 : 0;
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < whole; i += kBlockThreads) {
    const float4 v = reinterpret_cast<const float4*>(from)[i];
    const double a = v.x, b = v.y, c = v.z, d = v.w;
    sum += (a * a + b * b) + (c * c + d * d);
  }
  for (std::int64_t i = 4 * whole + threadIdx.x; i < slice.count; i += kBlockThreads) {
    const double a = from[i];
    sum += a * a;
  }
  const double total = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// First slice whose tensor is at least `tensor`; tensors ascend in the list.
__device__ std::int64_t first_of(const TensorSlice* slices, std::int64_t count,
                                 std::int64_t tensor) {
  std::int64_t low = 0, high = count;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (slices[middle].tensor < tensor)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

__global__ void norm_of_tensors(const TensorSlice* __restrict__ slices, std::int64_t count,
                                const double* __restrict__ partial, double* __restrict__ sums) {
  __shared__ double scratch[32];
  const std::int64_t tensor = blockIdx.x;
  const std::int64_t begin = first_of(slices, count, tensor);
  const std::int64_t end = first_of(slices, count, tensor + 1);
  double sum = 0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kBlockThreads) sum += partial[i];
  const double total = block_sum(sum, scratch);
  if (threadIdx.x == 0) sums[tensor] = total;
}

}  // namespace

template <typename T>
void squared_norms(const Queue& queue, const SquaredNorms<T>& a) {
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  if (a.slice_count > 0) {
    norm_of_slices<<<static_cast<unsigned>(a.slice_count), kBlockThreads, 0, stream>>>(
        a.slices, a.x, a.partial);
    check_launch("squared_norms");
  }
  if (a.tensors > 0) {
    norm_of_tensors<<<static_cast<unsigned>(a.tensors), kBlockThreads, 0, stream>>>(
        a.slices, a.slice_count, a.partial, a.sums);
    check_launch("squared_norms");
  }
}

template void squared_norms(const Queue&, const SquaredNorms<float>&);

}  // namespace tessera::kernels::cuda
