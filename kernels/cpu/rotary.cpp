// Rotary positions on the fused QKV matrix, and their tables.
#include "kernels/rotary.h"

#include <cmath>

#include "kernels/cpu/parallel.h"

namespace tessera::kernels {

template <typename T>
void rotary_tables(std::int64_t positions, std::int64_t rotary, double base, T* cos, T* sin) {
  const std::int64_t half = rotary / 2;
  for (std::int64_t j = 0; j < half; ++j) {
    const float inverse = static_cast<float>(
        std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(rotary)));
    for (std::int64_t p = 0; p < positions; ++p) {
      const float angle = static_cast<float>(p) * inverse;
      cos[p * half + j] = static_cast<T>(std::cos(angle));
      sin[p * half + j] = static_cast<T>(std::sin(angle));
    }
  }
}

template void rotary_tables(std::int64_t, std::int64_t, double, float*, float*);
template void rotary_tables(std::int64_t, std::int64_t, double, double*, double*);

namespace cpu {
namespace {

// x[0, half) and x[half, 2 half) by the angle whose cosine and sine are given; `sign` its
// direction.
template <typename T>
inline void rotate(std::int64_t half, const T* cos, const T* sin, T sign, T* x) {
  T* const low = x;
  T* const high = x + half;
#pragma omp simd
  for (std::int64_t j = 0; j < half; ++j) {
    const T a = low[j], b = high[j], s = sign * sin[j];
    low[j] = a * cos[j] - b * s;
    high[j] = b * cos[j] + a * s;
  }
}

}  // namespace

template <typename T>
void rotary(const Rotary<T>& a) {
  const std::int64_t half = a.rotary / 2, head = 3 * a.head_size;
  TESSERA_CHECK(a.rotary % 2 == 0 && a.rotary <= a.head_size);
  TESSERA_CHECK(a.rows == 0 || a.positions || (a.length > 0 && a.rows % a.length == 0));
  const T sign = a.backward ? T{-1} : T{1};
  parallel_ranges(a.rows, 1, kSerialElements / (a.heads * head + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) {
                      const std::int64_t position =
                          a.positions ? a.positions[r] : a.first_position + r % a.length;
                      const T *cos = a.cos + position * half, *sin = a.sin + position * half;
                      for (std::int64_t h = 0; h < a.heads; ++h) {
                        T* q = a.qkv + (r * a.heads + h) * head;
                        rotate(half, cos, sin, sign, q);
                        rotate(half, cos, sin, sign, q + a.head_size);
                      }
                    }
                  });
}

template void rotary(const Rotary<float>&);
template void rotary(const Rotary<double>&);

}  // namespace cpu
}  // namespace tessera::kernels
