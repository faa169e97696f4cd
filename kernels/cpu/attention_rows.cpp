// Attention query by query: decoding (one query beside keys that are read once, so memory sets the
// pace), and shapes that neither registers nor tiles suit.
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_paths.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace tessera::kernels::cpu {
namespace {

template <typename T>
T dot(const T* a, const T* b, std::int64_t n) {
  Vec<T> sum{};
  vector_loop<T>(n,
                 [&](std::int64_t i, auto part) { sum += load(a + i, part) * load(b + i, part); });
  return sum_lanes(sum);
}
template <typename T>
void add(std::int64_t n, T factor, const T* from, T* to) {
  vector_loop<T>(n, [&](std::int64_t i, auto part) {
    store(to + i, load(to + i, part) + factor * load(from + i, part), part);
  });
}

template <typename T>
constexpr T kLowest = -std::numeric_limits<T>::infinity();

template <typename T>
void forward(const AttentionForward<T>& a, std::int64_t w, std::int64_t h, T* p) {
  const AttentionShape& s = a.shape;
  const T scale = T{1} / std::sqrt(static_cast<T>(s.head_size));
  const std::uint8_t* mask = a.key_mask ? a.key_mask + w * s.keys : nullptr;
  const T* k = a.k + w * s.kv_window + h * s.kv_head;
  const T* v = a.v + w * s.kv_window + h * s.kv_head;
  for (std::int64_t i = 0; i < s.queries; ++i) {
    const T* q = a.q + w * s.q_window + i * s.q_row + h * s.q_head;
    T* out = a.out + ((w * s.queries + i) * s.heads + h) * s.head_size;
    const std::int64_t last = s.keys - s.queries + i;
    bool any = false;
    T most = kLowest<T>;
    for (std::int64_t j = 0; j <= last; ++j) {
      const bool allowed = !mask || mask[j];
      any = any || allowed;
      p[j] = allowed ? scale * dot(q, k + j * s.kv_row, s.head_size) : kLowest<T>;
      most = most > p[j] ? most : p[j];
    }
    vector_loop<T>(last + 1, [&](std::int64_t j, auto part) {
      store(p + j, exp(load(p + j, part) - most), part);
    });
    T sum = 0;
    for (std::int64_t j = 0; j <= last; ++j) sum += !mask || mask[j] ? p[j] : T{0};
    for (std::int64_t x = 0; x < s.head_size; ++x) out[x] = 0;
    const T inverse = T{1} / sum;
    for (std::int64_t j = 0; j <= last; ++j)
      if (!mask || mask[j]) add(s.head_size, p[j] * inverse, v + j * s.kv_row, out);
    if (a.lse) a.lse[(w * s.heads + h) * s.queries + i] = any ? most + std::log(sum) : kLowest<T>;
  }
}

template <typename T>
void backward(const AttentionBackward<T>& a, std::int64_t w, std::int64_t h) {
  const AttentionShape& s = a.shape;
  const std::int64_t d = s.head_size;
  const T scale = T{1} / std::sqrt(static_cast<T>(d));
  const std::uint8_t* mask = a.key_mask ? a.key_mask + w * s.keys : nullptr;
  const std::int64_t kv = w * s.kv_window + h * s.kv_head;
  for (std::int64_t j = 0; j < s.keys; ++j)
    for (std::int64_t c = 0; c < d; ++c)
      a.dk[kv + j * s.kv_row + c] = a.dv[kv + j * s.kv_row + c] = 0;
  for (std::int64_t i = 0; i < s.queries; ++i) {
    const std::int64_t at = w * s.q_window + i * s.q_row + h * s.q_head;
    const std::int64_t o = ((w * s.queries + i) * s.heads + h) * d;
    const T lse = a.lse[(w * s.heads + h) * s.queries + i];
    const T delta = dot(a.dout + o, a.out + o, d);
    for (std::int64_t c = 0; c < d; ++c) a.dq[at + c] = 0;
    for (std::int64_t j = 0; j <= s.keys - s.queries + i; ++j) {
      if (mask && !mask[j]) continue;
      const std::int64_t row = kv + j * s.kv_row;
      const T p = std::exp(scale * dot(a.q + at, a.k + row, d) - lse);
      const T ds = scale * p * (dot(a.dout + o, a.v + row, d) - delta);
      add(d, p, a.dout + o, a.dv + row);
      add(d, ds, a.k + row, a.dq + at);
      add(d, ds, a.q + at, a.dk + row);
    }
  }
}

}  // namespace

template <typename T>
void attention_forward_rows(const AttentionForward<T>& a) {
  const AttentionShape& s = a.shape;
  parallel_ranges(s.windows * s.heads, 1, 2, [&](std::int64_t begin, std::int64_t end) {
    struct Scores;
    T* p = scratch<T, Scores>(s.keys);
    for (std::int64_t i = begin; i < end; ++i) forward(a, i / s.heads, i % s.heads, p);
  });
}

template <typename T>
void attention_backward_rows(const AttentionBackward<T>& a) {
  const AttentionShape& s = a.shape;
  parallel_ranges(s.windows * s.heads, 1, 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) backward(a, i / s.heads, i % s.heads);
  });
}

template void attention_forward_rows(const AttentionForward<float>&);
template void attention_forward_rows(const AttentionForward<double>&);
template void attention_backward_rows(const AttentionBackward<float>&);
template void attention_backward_rows(const AttentionBackward<double>&);

}  // namespace tessera::kernels::cpu
