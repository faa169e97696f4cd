// AdamW as one pass over parameter, moments and gradient.
#include "kernels/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {

namespace {

template <typename T>
void one(const AdamW<T>& a, const TensorSlice& slice) {
  const AdamWStep& step = *a.step;
  const T b1 = static_cast<T>(a.beta1), c1 = static_cast<T>(1 - a.beta1);
  const T b2 = static_cast<T>(a.beta2), c2 = static_cast<T>(1 - a.beta2);
  const T keep = static_cast<T>(1 - step.lr * static_cast<double>(slice.weight_decay));
  const T rate = static_cast<T>(step.rate), root = static_cast<T>(step.root);
  const T eps = static_cast<T>(a.eps), scale = static_cast<T>(step.scale);
  const std::int64_t state = slice.offset - slice.shift;
  parallel_ranges(slice.count, kLanes<T>, kSerialElements,
                  [&](std::int64_t begin, std::int64_t end) {
                    T* const p = a.parameter + (a.working ? state : slice.offset);
                    T* const ms = a.m + state;
                    T* const vs = a.v + state;
                    const T* const gs = a.gradient + slice.offset;
#pragma omp simd
                    for (std::int64_t i = begin; i < end; ++i) {
                      const T g = scale * gs[i];
                      const T m = b1 * ms[i] + c1 * g;
                      const T v = b2 * vs[i] + c2 * (g * g);
                      ms[i] = m;
                      vs[i] = v;
                      p[i] = keep * p[i] - rate * m / (std::sqrt(v) * root + eps);
                    }
                    if (a.working) std::copy(p + begin, p + end, a.working + slice.offset + begin);
                  });
}

}  // namespace

template <typename T>
void adamw(const AdamW<T>& a) {
  for (std::int64_t i = 0; i < a.slice_count; ++i) one(a, a.slices[i]);
}

template void adamw(const AdamW<float>&);
template void adamw(const AdamW<double>&);

}  // namespace tessera::kernels::cpu
