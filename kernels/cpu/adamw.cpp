// AdamW as one pass over parameter, moments and gradient.
#include "kernels/adamw.h"

#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {

template <typename T>
void adamw(const AdamW<T>& a) {
  TESSERA_CHECK(a.step >= 1);
  const double n = static_cast<double>(a.step);
  const double correction1 = 1 - std::pow(a.beta1, n), correction2 = 1 - std::pow(a.beta2, n);
  const T b1 = static_cast<T>(a.beta1), c1 = static_cast<T>(1 - a.beta1);
  const T b2 = static_cast<T>(a.beta2), c2 = static_cast<T>(1 - a.beta2);
  const T keep = static_cast<T>(1 - a.lr * a.weight_decay);
  const T rate = static_cast<T>(a.lr / correction1);
  const T root = static_cast<T>(1 / std::sqrt(correction2));
  const T eps = static_cast<T>(a.eps), scale = static_cast<T>(a.scale);
  parallel_ranges(a.count, kLanes<T>, kSerialElements, [&](std::int64_t begin, std::int64_t end) {
    T* const p = a.parameter;
    T* const ms = a.m;
    T* const vs = a.v;
    const T* const gs = a.gradient;
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      const T g = scale * gs[i];
      const T m = b1 * ms[i] + c1 * g;
      const T v = b2 * vs[i] + c2 * (g * g);
      ms[i] = m;
      vs[i] = v;
      p[i] = keep * p[i] - rate * m / (std::sqrt(v) * root + eps);
    }
  });
}

template void adamw(const AdamW<float>&);
template void adamw(const AdamW<double>&);

}  // namespace tessera::kernels::cpu
