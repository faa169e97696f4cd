// Copies between strided layouts, sixteen bytes a thread where everything is aligned to them.
#include "kernels/copy_rows.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace tessera::kernels::cuda {
namespace {

// Strides in elements of V.
template <typename V>
struct Copy {
  std::int64_t groups, count;  // elements a group
  const V* from;
  std::int64_t from_group, from_batch;
  V* to;
  std::int64_t to_group, to_batch, total;
};

constexpr int kAhead = 4;  // loads of a thread in flight together

template <typename V>
__global__ void copy(const Copy<V> a) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < a.total; i += kAhead * step) {
    V x[kAhead];
    std::int64_t to[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (i + k * step >= a.total) continue;
      const std::int64_t group = (i + k * step) / a.count, e = (i + k * step) % a.count;
      const std::int64_t b = group / a.groups, g = group % a.groups;
      to[k] = b * a.to_batch + g * a.to_group + e;
      x[k] = a.from[b * a.from_batch + g * a.from_group + e];
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (i + k * step < a.total) a.to[to[k]] = x[k];
  }
}

template <typename V, typename T>
void launch(const CopyRows<T>& a, std::int64_t lanes, cudaStream_t stream) {
  const std::int64_t count = a.runs_a_group * a.width / lanes;
  const Copy<V> args{a.groups,
                     count,
                     reinterpret_cast<const V*>(a.from),
                     a.from_group / lanes,
                     a.from_batch / lanes,
                     reinterpret_cast<V*>(a.to),
                     a.to_group / lanes,
                     a.to_batch / lanes,
                     a.batches * a.groups * count};
  copy<<<grid_blocks((args.total + kAhead - 1) / kAhead), kBlockThreads, 0, stream>>>(args);
  check_launch("copy_rows");
}

}  // namespace

template <typename T>
void copy_rows(const Queue& queue, const CopyRows<T>& a) {
  const std::int64_t count = a.runs_a_group * a.width;
  if (a.batches * a.groups * count <= 0) return;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  const std::int64_t sizes = count | a.from_group | a.to_group |
                             (a.batches > 1 ? a.from_batch | a.to_batch : std::int64_t{0});
  if (sizes % kLanes<T> == 0 && vector_aligned(a.from, a.to))
    launch<uint4>(a, kLanes<T>, stream);
  else
    launch<T>(a, 1, stream);
}

template void copy_rows(const Queue&, const CopyRows<float>&);
template void copy_rows(const Queue&, const CopyRows<bf16>&);

}  // namespace tessera::kernels::cuda
