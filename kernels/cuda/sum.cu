// A sum in double by one block: its threads' shares in order, then a fixed tree.
#include "kernels/cuda/reduce.cuh"
#include "kernels/sum.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 1024;

template <typename T>
__global__ void sum_all(std::int64_t count, const T* __restrict__ x, double* sum) {
  __shared__ double scratch[32];
  double mine = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) mine += static_cast<double>(x[i]);
  const double total = block_sum(mine, scratch);
  if (threadIdx.x == 0) *sum += total;
}

}  // namespace

template <typename T>
void sum(const Queue& queue, const Sum<T>& a) {
  if (a.count <= 0) return;
  sum_all<<<1, kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(a.count, a.x, a.sum);
  check_launch("sum");
}

template void sum(const Queue&, const Sum<float>&);

}  // namespace tessera::kernels::cuda
