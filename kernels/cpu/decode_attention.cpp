// One row a sequence: each (sequence, head) reads its keys once for the scores and its values once
// for the output.
#include "kernels/decode_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "kernels/cpu/parallel.h"

namespace tessera::kernels::cpu {
namespace {

struct Scores;

// to = x [d] with its first 2 * half components rotated.
template <typename T>
void rotated(std::int64_t half, std::int64_t d, const T* cos, const T* sin, const T* x, T* to) {
  for (std::int64_t j = 0; j < half; ++j) {
    const T a = x[j], b = x[j + half];
    to[j] = a * cos[j] - b * sin[j];
    to[j + half] = b * cos[j] + a * sin[j];
  }
  std::copy(x + 2 * half, x + d, to + 2 * half);
}

template <typename T>
void attend(const DecodeAttention<T>& a, std::int64_t b, std::int64_t h, T* memory) {
  const std::int64_t d = a.head_size, half = a.rotary / 2;
  const std::int64_t p = a.positions ? a.positions[b] : a.position;
  TESSERA_CHECK(p >= 0 && p < a.longest);
  T *const q = memory, *const scores = memory + d;
  const T* row = a.qkv + b * a.qkv_row + 3 * h * d;
  T* const keys = a.keys + b * a.cache_sequence + h * d;
  T* const values = a.values + b * a.cache_sequence + h * d;
  rotated(half, d, a.cos + p * half, a.sin + p * half, row, q);
  rotated(half, d, a.cos + p * half, a.sin + p * half, row + d, keys + p * a.cache_row);
  std::copy_n(row + 2 * d, d, values + p * a.cache_row);

  const T scale = T{1} / std::sqrt(static_cast<T>(d));
  T most = -std::numeric_limits<T>::infinity();
  for (std::int64_t j = 0; j <= p; ++j) {
    const T* k = keys + j * a.cache_row;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t c = 0; c < d; ++c) sum += q[c] * k[c];
    scores[j] = scale * sum;
    most = std::max(most, scores[j]);
  }
  T* const out = a.out + (b * a.heads + h) * d;
  std::fill_n(out, d, T{0});
  T sum = 0;
  for (std::int64_t j = 0; j <= p; ++j) {
    const T weight = std::exp(scores[j] - most);
    const T* v = values + j * a.cache_row;
    sum += weight;
#pragma omp simd
    for (std::int64_t c = 0; c < d; ++c) out[c] += weight * v[c];
  }
  for (std::int64_t c = 0; c < d; ++c) out[c] /= sum;
}

}  // namespace

template <typename T>
void decode_attention(const DecodeAttention<T>& a) {
  TESSERA_CHECK(a.rotary % 2 == 0 && a.rotary <= a.head_size);
  const std::int64_t pairs = a.sequences * a.heads;
  const std::int64_t likely = (a.positions ? a.longest : a.position + 1) * a.head_size;
  parallel_ranges(pairs, 1, kSerialElements / (likely + 1) + 1,
                  [&](std::int64_t begin, std::int64_t end) {
                    T* const memory = scratch<T, Scores>(a.head_size + a.longest);
                    for (std::int64_t i = begin; i < end; ++i)
                      attend(a, i / a.heads, i % a.heads, memory);
                  });
}

template void decode_attention(const DecodeAttention<float>&);
template void decode_attention(const DecodeAttention<double>&);

}  // namespace tessera::kernels::cpu
