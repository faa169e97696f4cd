// Attention of tiny windows (the token decoder: thousands of windows of a few positions), a pass
// bound by memory: one (window, head) at a time, rows of q, k and v in registers.
//
// The allowed (query, key) pairs of a window are numbered; their dot products are summed over lanes
// a vector of pairs at a time, and one exponential serves as many pairs. Instantiated for rows of 1
// to kMostVectors vectors, whole or with a ragged last one.
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_paths.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/tile_product.h"
#include "kernels/cpu/vector_math.h"

namespace tessera::kernels::cpu {
namespace {

constexpr int kMostVectors = 8;
constexpr std::int64_t kMostPairs = kTinyWindow * kTinyWindow;

// A row of d elements as vectors.
template <typename T, int vectors, bool ragged>
struct Row {
  Vec<T> v[vectors];
  static Row zero() {
    Row row;
    for (Vec<T>& x : row.v) x = Vec<T>{};
    return row;
  }
  static Row read(const T* p, std::int64_t d) {
    Row row;
    for (int i = 0; i + ragged < vectors; ++i) row.v[i] = load(p + i * kLanes<T>);
    if constexpr (ragged) {
      constexpr std::int64_t at = (vectors - 1) * kLanes<T>;
      row.v[vectors - 1] = load(p + at, Partial{d - at});
    }
    return row;
  }
  void write(T* p, std::int64_t d) const {
    for (int i = 0; i + ragged < vectors; ++i) store(p + i * kLanes<T>, v[i]);
    if constexpr (ragged) {
      constexpr std::int64_t at = (vectors - 1) * kLanes<T>;
      store(p + at, v[vectors - 1], Partial{d - at});
    }
  }
  void add(T factor, const Row& row) {
    for (int i = 0; i < vectors; ++i) v[i] += factor * row.v[i];
  }
  // The dot product, still spread over lanes.
  Vec<T> times(const Row& row) const {
    Vec<T> sum = v[0] * row.v[0];
    for (int i = 1; i < vectors; ++i) sum += v[i] * row.v[i];
    return sum;
  }
};

// Sums vectors over their lanes, a vector of sums at a time: after log2(lanes) rounds of adding
// perfect shuffles, lane i holds the sum of input i.
template <typename T>
class LaneSums {
 public:
  explicit LaneSums(T* to) : to_(to) {}
  void add(Vec<T> x) {
    waiting_[used_++] = x;
    if (used_ == kLanes<T>) flush();
  }
  void finish() {
    if (used_ == 0) return;
    while (used_ < kLanes<T>) waiting_[used_++] = Vec<T>{};
    flush();
  }

 private:
  void flush() {
    constexpr auto lanes = std::make_index_sequence<kLanes<T>>();
#pragma GCC unroll 4
    for (std::int64_t half = kLanes<T> / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (std::int64_t i = 0; i < half; ++i)
        waiting_[i] = interleave_low(waiting_[i], waiting_[i + half], lanes) +
                      interleave_high(waiting_[i], waiting_[i + half], lanes);
    store(to_, waiting_[0]);
    to_ += kLanes<T>;
    used_ = 0;
  }
  Vec<T> waiting_[kLanes<T>];
  std::int64_t used_ = 0;
  T* to_;
};

// The allowed keys of a window, ascending, and for each query how many of them it sees and the
// number of its first pair.
struct Pairs {
  std::int64_t keys[kTinyWindow], seen[kTinyWindow], first[kTinyWindow];
  std::int64_t allowed = 0, count = 0;
  Pairs(const AttentionShape& s, const std::uint8_t* mask) {
    for (std::int64_t j = 0; j < s.keys; ++j)
      if (!mask || mask[j]) keys[allowed++] = j;
    for (std::int64_t i = 0, n = 0; i < s.queries; ++i) {
      while (n < allowed && keys[n] <= s.keys - s.queries + i) ++n;
      seen[i] = n;
      first[i] = count;
      count += n;
    }
  }
};

template <typename T>
T softmax_scale(const AttentionShape& s) {
  return static_cast<T>(1 / std::sqrt(static_cast<double>(s.head_size)));
}

template <typename T, int vectors, bool ragged>
void forward(const AttentionForward<T>& a, const Pairs& pairs, std::int64_t w, std::int64_t h) {
  using Row = Row<T, vectors, ragged>;
  const AttentionShape& s = a.shape;
  const std::int64_t d = s.head_size, at = w * s.q_window + h * s.q_head;
  const std::int64_t kv = w * s.kv_window + h * s.kv_head;
  const T scale = softmax_scale<T>(s);
  alignas(64) T p[kMostPairs + kLanes<T>], shift[kMostPairs + kLanes<T>];
  T top[kTinyWindow];
  LaneSums<T> dots(p);
  for (std::int64_t i = 0; i < s.queries; ++i) {
    const Row q = Row::read(a.q + at + i * s.q_row, d);
    for (std::int64_t n = 0; n < pairs.seen[i]; ++n)
      dots.add(q.times(Row::read(a.k + kv + pairs.keys[n] * s.kv_row, d)));
  }
  dots.finish();
  for (std::int64_t i = 0; i < s.queries; ++i) {
    top[i] = -std::numeric_limits<T>::infinity();
    const std::int64_t end = pairs.first[i] + pairs.seen[i];
    for (std::int64_t x = pairs.first[i]; x < end; ++x) top[i] = top[i] > p[x] ? top[i] : p[x];
    for (std::int64_t x = pairs.first[i]; x < end; ++x) shift[x] = top[i];
  }
  for (std::int64_t x = 0; x < pairs.count; x += kLanes<T>)
    store(p + x, exp(scale * (load(p + x) - load(shift + x))));
  for (std::int64_t i = 0; i < s.queries; ++i) {
    Row out = Row::zero();
    T sum = 0;
    for (std::int64_t n = 0; n < pairs.seen[i]; ++n) sum += p[pairs.first[i] + n];
    const T inverse = T{1} / sum;
    for (std::int64_t n = 0; n < pairs.seen[i]; ++n)
      out.add(inverse * p[pairs.first[i] + n], Row::read(a.v + kv + pairs.keys[n] * s.kv_row, d));
    out.write(a.out + ((w * s.queries + i) * s.heads + h) * d, d);
    if (a.lse)
      a.lse[(w * s.heads + h) * s.queries + i] =
          pairs.seen[i] == 0 ? top[i] : scale * top[i] + std::log(sum);
  }
}

template <typename T, int vectors, bool ragged>
void backward(const AttentionBackward<T>& a, const Pairs& pairs, std::int64_t w, std::int64_t h) {
  using Row = Row<T, vectors, ragged>;
  const AttentionShape& s = a.shape;
  const std::int64_t d = s.head_size, at = w * s.q_window + h * s.q_head;
  const std::int64_t kv = w * s.kv_window + h * s.kv_head;
  const std::int64_t o_row = s.heads * d, o = w * s.queries * o_row + h * d;
  const T scale = softmax_scale<T>(s);
  const T* lse = a.lse + (w * s.heads + h) * s.queries;
  alignas(64) T p[kMostPairs + kLanes<T>], ds[kMostPairs + kLanes<T>];
  alignas(64) T shift[kMostPairs + kLanes<T>], delta[kMostPairs + kLanes<T>];
  alignas(64) T row_delta[kTinyWindow + kLanes<T>];
  LaneSums<T> scores(p), products(ds), deltas(row_delta);
  for (std::int64_t i = 0; i < s.queries; ++i) {
    const Row q = Row::read(a.q + at + i * s.q_row, d);
    const Row dout = Row::read(a.dout + o + i * o_row, d);
    deltas.add(dout.times(Row::read(a.out + o + i * o_row, d)));
    for (std::int64_t n = 0; n < pairs.seen[i]; ++n) {
      const std::int64_t key = kv + pairs.keys[n] * s.kv_row;
      scores.add(q.times(Row::read(a.k + key, d)));
      products.add(dout.times(Row::read(a.v + key, d)));
    }
  }
  scores.finish(), products.finish(), deltas.finish();
  for (std::int64_t i = 0; i < s.queries; ++i)
    for (std::int64_t x = pairs.first[i]; x < pairs.first[i] + pairs.seen[i]; ++x)
      shift[x] = lse[i], delta[x] = row_delta[i];
  for (std::int64_t x = 0; x < pairs.count; x += kLanes<T>) {
    const Vec<T> e = exp(scale * load(p + x) - load(shift + x));
    store(p + x, e);
    store(ds + x, scale * e * (load(ds + x) - load(delta + x)));
  }
  for (std::int64_t i = 0; i < s.queries; ++i) {
    Row dq = Row::zero();
    for (std::int64_t n = 0; n < pairs.seen[i]; ++n)
      dq.add(ds[pairs.first[i] + n], Row::read(a.k + kv + pairs.keys[n] * s.kv_row, d));
    dq.write(a.dq + at + i * s.q_row, d);
  }
  std::int64_t n = 0;  // number of key j among the allowed ones
  for (std::int64_t j = 0; j < s.keys; ++j) {
    Row dk = Row::zero(), dv = Row::zero();
    if (n < pairs.allowed && pairs.keys[n] == j) {
      for (std::int64_t i = 0; i < s.queries; ++i) {
        if (pairs.seen[i] <= n) continue;
        dv.add(p[pairs.first[i] + n], Row::read(a.dout + o + i * o_row, d));
        dk.add(ds[pairs.first[i] + n], Row::read(a.q + at + i * s.q_row, d));
      }
      ++n;
    }
    dk.write(a.dk + kv + j * s.kv_row, d);
    dv.write(a.dv + kv + j * s.kv_row, d);
  }
}

// Forward or backward, by the type of the arguments.
template <typename T, int vectors, bool ragged>
void one(const AttentionForward<T>& a, const Pairs& pairs, std::int64_t w, std::int64_t h) {
  forward<T, vectors, ragged>(a, pairs, w, h);
}
template <typename T, int vectors, bool ragged>
void one(const AttentionBackward<T>& a, const Pairs& pairs, std::int64_t w, std::int64_t h) {
  backward<T, vectors, ragged>(a, pairs, w, h);
}

template <typename T, int vectors, bool ragged, typename Args>
void all(const Args& a) {
  const AttentionShape& s = a.shape;
  parallel_ranges(s.windows, 1, 2, [&](std::int64_t begin, std::int64_t end) {
    Pairs pairs(s, nullptr);
    for (std::int64_t w = begin; w < end; ++w) {
      if (a.key_mask) pairs = Pairs(s, a.key_mask + w * s.keys);
      for (std::int64_t h = 0; h < s.heads; ++h) one<T, vectors, ragged>(a, pairs, w, h);
    }
  });
}

// The instantiation for a head size.
template <typename T, int vectors = 1, typename Args>
void choose(const Args& a) {
  const std::int64_t d = a.shape.head_size;
  if (d == vectors * kLanes<T>)
    all<T, vectors, false>(a);
  else if (d < vectors * kLanes<T>)
    all<T, vectors, true>(a);
  else if constexpr (vectors < kMostVectors)
    choose<T, vectors + 1>(a);
}

}  // namespace

template <typename T>
bool attention_is_tiny(const AttentionShape& s) {
  return s.keys <= kTinyWindow && s.head_size <= kMostVectors * kLanes<T>;
}

template <typename T>
void attention_forward_tiny(const AttentionForward<T>& a) {
  TESSERA_CHECK(attention_is_tiny<T>(a.shape));
  choose<T>(a);
}

template <typename T>
void attention_backward_tiny(const AttentionBackward<T>& a) {
  TESSERA_CHECK(attention_is_tiny<T>(a.shape));
  choose<T>(a);
}

template bool attention_is_tiny<float>(const AttentionShape&);
template bool attention_is_tiny<double>(const AttentionShape&);
template void attention_forward_tiny(const AttentionForward<float>&);
template void attention_forward_tiny(const AttentionForward<double>&);
template void attention_backward_tiny(const AttentionBackward<float>&);
template void attention_backward_tiny(const AttentionBackward<double>&);

}  // namespace tessera::kernels::cpu
