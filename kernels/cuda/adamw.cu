// AdamW over a list of slices in one launch, a block a slice: parameter, moments and gradient are
// read once and written once, sixteen bytes at a time.
#include "kernels/adamw.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace tessera::kernels::cuda {
namespace {

struct Factors {
  float b1, c1, b2, c2, keep, rate, root, eps, scale;
};

__device__ __forceinline__ float updated(const Factors& f, float p, float& m, float& v, float g) {
  g *= f.scale;
  m = f.b1 * m + f.c1 * g;
  v = f.b2 * v + f.c2 * (g * g);
  return f.keep * p - f.rate * m / (sqrtf(v) * f.root + f.eps);
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads) update(const AdamW<T> a) {
  const TensorSlice slice = a.slices[blockIdx.x];
  const AdamWStep step = *a.step;
  const Factors f{static_cast<float>(a.beta1),
                  static_cast<float>(1 - a.beta1),
                  static_cast<float>(a.beta2),
                  static_cast<float>(1 - a.beta2),
                  static_cast<float>(1 - step.lr * static_cast<double>(slice.weight_decay)),
                  static_cast<float>(step.rate),
                  static_cast<float>(step.root),
                  static_cast<float>(a.eps),
                  static_cast<float>(step.scale)};
  const std::int64_t state = slice.offset - slice.shift;
  float* p = a.parameter + (a.working ? state : slice.offset);
  float *m = a.m + state, *v = a.v + state;
  const float* g = a.gradient + slice.offset;
  T* working = a.working ? a.working + slice.offset : nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(p) | reinterpret_cast<std::uintptr_t>(m) |
                       reinterpret_cast<std::uintptr_t>(v) | reinterpret_cast<std::uintptr_t>(g);
  const bool vectors = address % 16 == 0 && reinterpret_cast<std::uintptr_t>(working) % 8 == 0;
  const std::int64_t whole = vectors ? slice.count / 4 : 0;
#pragma unroll 2
  for (std::int64_t i = threadIdx.x; i < whole; i += kBlockThreads) {
    float4 vp = reinterpret_cast<float4*>(p)[i], vm = reinterpret_cast<float4*>(m)[i];
    float4 vv = reinterpret_cast<float4*>(v)[i];
    const float4 vg = __ldcs(reinterpret_cast<const float4*>(g) + i);
    vp.x = updated(f, vp.x, vm.x, vv.x, vg.x);
    vp.y = updated(f, vp.y, vm.y, vv.y, vg.y);
    vp.z = updated(f, vp.z, vm.z, vv.z, vg.z);
    vp.w = updated(f, vp.w, vm.w, vv.w, vg.w);
    reinterpret_cast<float4*>(p)[i] = vp;
    reinterpret_cast<float4*>(m)[i] = vm;
    reinterpret_cast<float4*>(v)[i] = vv;
    if (!working) continue;
    if constexpr (std::is_same_v<T, bf16>)
      reinterpret_cast<uint2*>(working)[i] =
          make_uint2(pack_pair(vp.x, vp.y), pack_pair(vp.z, vp.w));
    else
      reinterpret_cast<float4*>(working)[i] = vp;
  }
  for (std::int64_t i = 4 * whole + threadIdx.x; i < slice.count; i += kBlockThreads) {
    float vm = m[i], vv = v[i];
    const float vp = updated(f, p[i], vm, vv, g[i]);
    p[i] = vp;
    m[i] = vm;
    v[i] = vv;
    if (working) working[i] = from_float<T>(vp);
  }
}

}  // namespace

template <typename T>
void adamw(const Queue& queue, const AdamW<T>& a) {
  if (a.slice_count <= 0) return;
  update<<<static_cast<unsigned>(a.slice_count), kBlockThreads, 0,
           static_cast<cudaStream_t>(queue.stream)>>>(a);
  check_launch("adamw");
}

template void adamw(const Queue&, const AdamW<float>&);
template void adamw(const Queue&, const AdamW<bf16>&);

}  // namespace tessera::kernels::cuda
