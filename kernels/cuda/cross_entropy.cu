// Softmax cross entropy: a block a row. The row is copied into shared memory by sixteen bytes
// (asynchronously, so that two blocks a processor overlap one's copies with the other's
// arithmetic), each thread keeps its own maximum and sum, and the gradient goes straight back:
// logits are read once and written once. Rows that do not fit or are not aligned are read again
// from memory.
#include "kernels/cross_entropy.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;

struct Softmax {
  float most, total;
};

__device__ __forceinline__ Softmax join(const Softmax& a, const Softmax& b) {
  const float most = fmaxf(a.most, b.most);
  // Two empty halves (-inf) stay empty; a NaN anywhere stays NaN through `total`.
  const float left = a.most == most ? 1.0f : __expf(a.most - most);
  const float right = b.most == most ? 1.0f : __expf(b.most - most);
  return {most, a.total * left + b.total * right};
}

__device__ __forceinline__ Softmax block_softmax(Softmax mine, Softmax* scratch) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    mine = join(mine, {__shfl_xor_sync(0xffffffffu, mine.most, offset),
                       __shfl_xor_sync(0xffffffffu, mine.total, offset)});
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = mine;
  __syncthreads();
  Softmax all = scratch[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) all = join(all, scratch[i]);
  return all;
}

template <typename T>
__device__ __forceinline__ float power(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return __expf(x);
  else
    return expf(x);
}

// dz_v = weight (softmax(z)_v - [v = target]) with scale = weight / total.
template <typename T>
__device__ __forceinline__ float slope(float z, const Softmax& all, float scale, float weight,
                                       bool is_target) {
  const float d = power<T>(z - all.most) * scale;
  return is_target ? d - weight : d;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2) in_shared(const CrossEntropy<T> a) {
  constexpr int kN = kLanes<T>;
  extern __shared__ uint4 row_vectors[];
  __shared__ Softmax scratch[kWarps];
  const std::int64_t row = blockIdx.x;
  T* z = a.logits + row * a.stride;
  const int vocab = static_cast<int>(a.vocab), whole = vocab / kN,
            all_vectors = (vocab + kN - 1) / kN;
  const std::int32_t target = a.targets[a.target_index(row)];
  const float weight = a.gradient ? *a.weight : 0.0f;
  if (target < 0) {
    if (threadIdx.x == 0) a.losses[row] = 0.0f;
    if (a.gradient) {
      for (int v = static_cast<int>(threadIdx.x); v < whole; v += kThreads)
        reinterpret_cast<uint4*>(z)[v] = make_uint4(0, 0, 0, 0);
      for (int v = whole * kN + static_cast<int>(threadIdx.x); v < vocab; v += kThreads)
        z[v] = from_float<T>(0.0f);
    }
    return;
  }
  const auto shared = static_cast<std::uint32_t>(__cvta_generic_to_shared(row_vectors));
  for (int v = static_cast<int>(threadIdx.x); v < all_vectors; v += kThreads)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(
                     shared + 16u * static_cast<unsigned>(v)),
                 "l"(reinterpret_cast<const uint4*>(z) + v));
  asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;\n" ::: "memory");
  // Each thread reads what it copied itself: no barrier before the target is looked up.
  Softmax mine{__int_as_float(0xff800000), 0.0f};
  float high = mine.most;
  for (int v = static_cast<int>(threadIdx.x); v < all_vectors; v += kThreads) {
    float x[kN];
    unpack<T>(row_vectors[v], x);
#pragma unroll
    for (int i = 0; i < kN; ++i)
      if (v * kN + i < vocab) high = fmaxf(high, x[i]);
  }
  mine.most = high;
  for (int v = static_cast<int>(threadIdx.x); v < all_vectors; v += kThreads) {
    float x[kN];
    unpack<T>(row_vectors[v], x);
#pragma unroll
    for (int i = 0; i < kN; ++i)
      if (v * kN + i < vocab) mine.total += power<T>(x[i] - high);
  }
  const Softmax all = block_softmax(mine, scratch);
  if (threadIdx.x == 0)
    a.losses[row] =
        logf(all.total) + (all.most - to_float(reinterpret_cast<const T*>(row_vectors)[target]));
  if (!a.gradient) return;
  const float scale = weight / all.total;
  for (int v = static_cast<int>(threadIdx.x); v < all_vectors; v += kThreads) {
    float x[kN];
    unpack<T>(row_vectors[v], x);
#pragma unroll
    for (int i = 0; i < kN; ++i) x[i] = slope<T>(x[i], all, scale, weight, v * kN + i == target);
    if (v < whole) {
      store(z + v * kN, x);
    } else {
#pragma unroll
      for (int i = 0; i < kN; ++i)
        if (v * kN + i < vocab) z[v * kN + i] = from_float<T>(x[i]);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) from_memory(const CrossEntropy<T> a) {
  __shared__ Softmax scratch[kWarps];
  const std::int64_t row = blockIdx.x;
  T* z = a.logits + row * a.stride;
  const std::int32_t target = a.targets[a.target_index(row)];
  if (target < 0) {
    if (threadIdx.x == 0) a.losses[row] = 0.0f;
    if (a.gradient)
      for (std::int64_t v = threadIdx.x; v < a.vocab; v += kThreads) z[v] = from_float<T>(0.0f);
    return;
  }
  const float at_target = to_float(z[target]);
  Softmax mine{__int_as_float(0xff800000), 0.0f};
  for (std::int64_t v = threadIdx.x; v < a.vocab; v += kThreads)
    mine.most = fmaxf(mine.most, to_float(z[v]));
  for (std::int64_t v = threadIdx.x; v < a.vocab; v += kThreads)
    mine.total += power<T>(to_float(z[v]) - mine.most);
  const Softmax all = block_softmax(mine, scratch);  // its barrier also follows every at_target
  if (threadIdx.x == 0) a.losses[row] = logf(all.total) + (all.most - at_target);
  if (!a.gradient) return;
  const float weight = *a.weight, scale = weight / all.total;
  for (std::int64_t v = threadIdx.x; v < a.vocab; v += kThreads)
    z[v] = from_float<T>(slope<T>(to_float(z[v]), all, scale, weight, v == target));
}

template <typename T>
int shared_limit() {
  static const int limit = [] {
    int device = 0, most = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
            cudaSuccess)
      return 0;
    most -= 1024;  // static part
    return cudaFuncSetAttribute(in_shared<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, most) ==
                   cudaSuccess
               ? most
               : 0;
  }();
  return limit;
}

}  // namespace

template <typename T>
void cross_entropy(const Queue& queue, const CrossEntropy<T>& given) {
  CrossEntropy<T> a = given;
  if (a.rows <= 0) return;
  if (a.stride == 0) a.stride = a.vocab;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  const std::int64_t bytes = (a.vocab + kLanes<T> - 1) / kLanes<T> * 16;
  const bool padded = a.stride % kLanes<T> == 0 && vector_aligned(a.logits);
  if (padded && bytes <= shared_limit<T>())
    in_shared<<<static_cast<unsigned>(a.rows), kThreads, static_cast<std::size_t>(bytes), stream>>>(
        a);
  else
    from_memory<<<static_cast<unsigned>(a.rows), kThreads, 0, stream>>>(a);
  check_launch("cross_entropy");
}

template void cross_entropy(const Queue&, const CrossEntropy<float>&);
template void cross_entropy(const Queue&, const CrossEntropy<bf16>&);

}  // namespace tessera::kernels::cuda
