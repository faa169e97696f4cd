// Exact GELU and its gradient, recomputed from x.
#include "kernels/gelu.h"

#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace tessera::kernels::cpu {

template <typename T>
void gelu_forward(const GeluForward<T>& a) {
  parallel_ranges(a.count, kLanes<T>, kSerialElements, [&](std::int64_t begin, std::int64_t end) {
    vector_loop<T>(end - begin, [&](std::int64_t i, auto part) {
      const Vec<T> x = load(a.x + begin + i, part);
      store(a.y + begin + i, x * normal_cdf(x), part);
    });
  });
}

template <typename T>
void gelu_backward(const GeluBackward<T>& a) {
  constexpr T kDensity = static_cast<T>(0.39894228040143267794);  // 1 / sqrt(2 pi)
  const std::int64_t count = a.rows * a.width;
  parallel_ranges(count, kLanes<T>, kSerialElements, [&](std::int64_t begin, std::int64_t end) {
    vector_loop<T>(end - begin, [&](std::int64_t i, auto part) {
      const Vec<T> x = load(a.x + begin + i, part), dy = load(a.dy + begin + i, part);
      const Vec<T> density = kDensity * exp(T{-0.5} * x * x);
      store(a.dx + begin + i, dy * (normal_cdf(x) + x * density), part);
    });
  });
  if (a.dbias) add_rows(a.rows, a.width, a.width, a.dx, a.dbias);
}

template void gelu_forward(const GeluForward<float>&);
template void gelu_forward(const GeluForward<double>&);
template void gelu_backward(const GeluBackward<float>&);
template void gelu_backward(const GeluBackward<double>&);

}  // namespace tessera::kernels::cpu
