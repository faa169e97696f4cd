// Attention of long windows as matrix products over tiles of queries, one (window, head) at a time.
//
// A tile's scores S = Q K^T lie in scratch memory, whole rows at once, so that the softmax needs no
// running rescale. Blocks of kTileRows queries stop at the last key that any of them may see, so
// masked halves cost nothing. Every operand is packed first (zero-padded; keys that are masked are
// packed as zeros and never read): the packing is O(T d) beside the products' O(T^2 d).
#include <cmath>
#include <cstring>
#include <limits>

#include "core/integers.h"
#include "kernels/cpu/attention_paths.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/tile_product.h"
#include "kernels/cpu/vector_math.h"

namespace tessera::kernels::cpu {
namespace {

constexpr std::int64_t kQueryTile = 8 * kTileRows;
constexpr std::int64_t kKeyChunk = 64;  // keys of V (or K) that stay in the first-level cache

// Padded sizes of one (window, head).
template <typename T>
struct Sizes {
  std::int64_t d, queries, keys;           // as given
  std::int64_t width, query_rows, panels;  // d, queries and keys padded
  std::int64_t key_rows;                   // keys padded to whole tile rows
  std::int64_t score_row;                  // elements a row of scores; not a power of two
  explicit Sizes(const AttentionShape& s)
      : d(s.head_size),
        queries(s.queries),
        keys(s.keys),
        width(round_up(d, kLanes<T>)),
        query_rows(round_up(queries, kTileRows)),
        panels(div_ceil(keys, kPanel<T>)),
        key_rows(round_up(keys, kTileRows)),
        score_row((panels + 1) * kPanel<T> + kLanes<T>) {}
  std::int64_t offset() const { return keys - queries; }
  // One past the last key that the block of queries from `i` sees.
  std::int64_t limit(std::int64_t i) const { return std::min(keys, offset() + i + kTileRows); }
};

// Hands out pieces of one scratch block, each a multiple of 64 bytes. Counts first, then cuts.
template <typename T>
class Pieces {
 public:
  void reserve(T** piece, std::int64_t count) {
    pieces_[used_++] = {piece, total_};
    total_ += round_up(count, std::int64_t{16});
  }
  void cut() {
    struct Block;
    T* base = scratch<T, Block>(total_);
    for (int i = 0; i < used_; ++i) *pieces_[i].piece = base + pieces_[i].at;
  }

 private:
  struct Piece {
    T** piece;
    std::int64_t at;
  };
  Piece pieces_[16];
  int used_ = 0;
  std::int64_t total_ = 0;
};

// scores[i, :] = A B^T for the tile's rows, B packed in transposed panels; only what the causal
// mask leaves, in whole vectors.
template <typename T>
void tile_scores(const Sizes<T>& s, std::int64_t first, std::int64_t rows, const T* a,
                 const T* panels, T* scores) {
  for (std::int64_t p = 0; p < s.panels; ++p)
    for (std::int64_t i = 0; i < rows; i += kTileRows) {
      const std::int64_t left = s.limit(first + i) - p * kPanel<T>;
      if (left <= 0) continue;
      product_panel<false>(std::min(kPanelVectors, div_ceil(left, kLanes<T>)), s.d,
                           a + (first + i) * s.width, s.width, 1, panels + p * s.d * kPanel<T>,
                           kPanel<T>, scores + i * s.score_row + p * kPanel<T>, s.score_row);
    }
}

// out[i, :] = sum_j p[i, j] b[j, :] for the tile's rows, keys in chunks.
template <typename T>
void tile_times_rows(const Sizes<T>& s, std::int64_t first, std::int64_t rows, const T* p,
                     const T* b, T* out) {
  for (std::int64_t j = 0; j < s.keys; j += kKeyChunk)
    for (std::int64_t i = 0; i < rows; i += kTileRows) {
      const std::int64_t depth = std::min(kKeyChunk, s.limit(first + i) - j);
      const T* a = p + i * s.score_row + j;
      T* c = out + i * s.width;
      if (j == 0)
        product_rows<false>(s.width, depth, a, s.score_row, 1, b, s.width, c, s.width);
      else if (depth > 0)
        product_rows<true>(s.width, depth, a, s.score_row, 1, b + j * s.width, s.width, c, s.width);
    }
}

// out[j, :] += sum_i p[i, j] b[i, :] over the tile's queries that see key j.
template <typename T>
void add_transposed(const Sizes<T>& s, std::int64_t first, std::int64_t rows, const T* p,
                    const T* b, T* out) {
  const std::int64_t keys = std::min(s.keys, s.offset() + first + rows);
  for (std::int64_t j = 0; j < keys; j += kTileRows) {
    const std::int64_t from = std::max<std::int64_t>(0, j - s.offset() - first);
    product_rows<true>(s.width, rows - from, p + from * s.score_row + j, 1, s.score_row,
                       b + (first + from) * s.width, s.width, out + j * s.width, s.width);
  }
}

// Calls body(j, allowed) for the vectors of a row of scores up to `zeros`: allowed lanes have a key
// below `count` that the mask (1 or 0 a key, or null) leaves.
template <typename T, typename Body>
inline void masked_loop(std::int64_t count, std::int64_t zeros, const T* mask, Body body) {
  const Vec<T> lanes = lane_numbers<T>();
  for (std::int64_t j = 0; j < zeros; j += kLanes<T>) {
    auto allowed = lanes < static_cast<T>(std::clamp<std::int64_t>(count - j, 0, kLanes<T>));
    if (mask) allowed &= load(mask + j) != 0;
    body(j, allowed);
  }
}

// One past the vectors of a row that later products read: a tile row beyond its block's limit.
template <typename T>
std::int64_t zeros_end(const Sizes<T>& s, std::int64_t i) {
  return round_up(s.limit(i - i % kTileRows) + kTileRows, kLanes<T>);
}

// 1 for keys that may be seen, 0 for masked ones and the padding; null without a mask.
template <typename T>
const T* expand_mask(const Sizes<T>& s, const std::uint8_t* mask, T* to) {
  if (!mask) return nullptr;
  for (std::int64_t j = 0; j < s.score_row; ++j) to[j] = j < s.keys && mask[j] ? T{1} : T{0};
  return to;
}

// Turns scores of query i into exp(scale s - maximum); gives the maximum and the sum.
template <typename T>
std::pair<T, T> softmax_row(const Sizes<T>& s, std::int64_t i, T scale, const T* mask, T* row) {
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  const std::int64_t count = s.offset() + i + 1, zeros = zeros_end(s, i);
  Vec<T> most = broadcast(kLowest), sum{};
  masked_loop<T>(count, zeros, mask, [&](std::int64_t j, auto allowed) {
    const Vec<T> x = allowed ? scale * load(row + j) : broadcast(kLowest);
    store(row + j, x);
    most = maximum(most, x);
  });
  const T top = max_lanes(most), shift = top == kLowest ? T{0} : top;
  for (std::int64_t j = 0; j < zeros; j += kLanes<T>) {
    const Vec<T> e = exp(load(row + j) - shift);
    store(row + j, e);
    sum += e;
  }
  return {top, sum_lanes(sum)};
}

template <typename T>
T softmax_scale(const AttentionShape& s) {
  return static_cast<T>(1 / std::sqrt(static_cast<double>(s.head_size)));
}

template <typename T>
void forward(const AttentionForward<T>& a, std::int64_t w, std::int64_t h) {
  const AttentionShape& shape = a.shape;
  const Sizes<T> s(shape);
  const std::uint8_t* keep = a.key_mask ? a.key_mask + w * s.keys : nullptr;
  const std::int64_t kv = w * shape.kv_window + h * shape.kv_head;
  T *q, *k, *v, *scores, *out, *mask_row;
  Pieces<T> pieces;
  pieces.reserve(&q, s.query_rows * s.width);
  pieces.reserve(&k, s.panels * kPanel<T> * s.d);
  pieces.reserve(&v, s.keys * s.width);
  pieces.reserve(&scores, kQueryTile * s.score_row);
  pieces.reserve(&out, kQueryTile * s.width);
  pieces.reserve(&mask_row, s.score_row);
  pieces.cut();
  pack(s.queries, s.d, a.q + w * shape.q_window + h * shape.q_head, shape.q_row, nullptr,
       s.query_rows, s.width, q);
  pack_transposed(s.keys, s.d, a.k + kv, shape.kv_row, keep, k);
  pack(s.keys, s.d, a.v + kv, shape.kv_row, keep, s.keys, s.width, v);
  const T* mask = expand_mask(s, keep, mask_row);
  const T scale = softmax_scale<T>(shape);
  for (std::int64_t first = 0; first < s.queries; first += kQueryTile) {
    const std::int64_t rows = std::min(kQueryTile, s.query_rows - first);
    const std::int64_t real = std::min(rows, s.queries - first);
    tile_scores(s, first, rows, q, k, scores);
    T sums[kQueryTile];
    for (std::int64_t i = 0; i < real; ++i) {
      const auto [top, sum] = softmax_row(s, first + i, scale, mask, scores + i * s.score_row);
      sums[i] = sum;
      if (a.lse)
        a.lse[(w * shape.heads + h) * s.queries + first + i] = sum == 0 ? top : top + std::log(sum);
    }
    tile_times_rows(s, first, rows, scores, v, out);
    for (std::int64_t i = 0; i < real; ++i) {
      // No key allowed: zeros. Keys, but all scores -infinity: not a number, as the quotient is.
      const bool none = sums[i] == 0 && mask &&
                        std::none_of(keep, keep + s.offset() + first + i + 1,
                                     [](std::uint8_t key) { return key != 0; });
      const T inverse = none ? T{0} : T{1} / sums[i];
      T* to = a.out + ((w * s.queries + first + i) * shape.heads + h) * s.d;
      vector_loop<T>(s.d, [&](std::int64_t j, auto part) {
        store(to + j, inverse * load(out + i * s.width + j, part), part);
      });
    }
  }
}

// Scores and dP of query i become p and scale ds.
template <typename T>
void backward_row(const Sizes<T>& s, std::int64_t i, T scale, const T* mask, T lse, T delta, T* p,
                  T* ds) {
  masked_loop<T>(s.offset() + i + 1, zeros_end(s, i), mask, [&](std::int64_t j, auto allowed) {
    const Vec<T> e = exp(scale * load(p + j) - lse);
    const Vec<T> g = (scale * e) * (load(ds + j) - delta);
    store(p + j, allowed ? e : Vec<T>{});
    store(ds + j, allowed ? g : Vec<T>{});
  });
}

template <typename T>
void write_rows(std::int64_t rows, const Sizes<T>& s, const T* from, std::int64_t to_row, T* to) {
  for (std::int64_t r = 0; r < rows; ++r)
    std::memcpy(to + r * to_row, from + r * s.width, static_cast<std::size_t>(s.d) * sizeof(T));
}

template <typename T>
void backward(const AttentionBackward<T>& a, std::int64_t w, std::int64_t h) {
  const AttentionShape& shape = a.shape;
  const Sizes<T> s(shape);
  const std::uint8_t* keep = a.key_mask ? a.key_mask + w * s.keys : nullptr;
  const std::int64_t kv = w * shape.kv_window + h * shape.kv_head;
  const std::int64_t at = w * shape.q_window + h * shape.q_head;
  const std::int64_t o_row = shape.heads * s.d, o = w * s.queries * o_row + h * s.d;
  T *q, *dout, *k, *k_panels, *v_panels, *p, *ds, *dq, *dk, *dv, *mask_row;
  Pieces<T> pieces;
  pieces.reserve(&q, s.query_rows * s.width);
  pieces.reserve(&dout, s.query_rows * s.width);
  pieces.reserve(&k, s.keys * s.width);
  pieces.reserve(&k_panels, s.panels * kPanel<T> * s.d);
  pieces.reserve(&v_panels, s.panels * kPanel<T> * s.d);
  pieces.reserve(&p, kQueryTile * s.score_row);
  pieces.reserve(&ds, kQueryTile * s.score_row);
  pieces.reserve(&dq, kQueryTile * s.width);
  pieces.reserve(&dk, s.key_rows * s.width);
  pieces.reserve(&dv, s.key_rows * s.width);
  pieces.reserve(&mask_row, s.score_row);
  pieces.cut();
  pack(s.queries, s.d, a.q + at, shape.q_row, nullptr, s.query_rows, s.width, q);
  pack(s.queries, s.d, a.dout + o, o_row, nullptr, s.query_rows, s.width, dout);
  pack(s.keys, s.d, a.k + kv, shape.kv_row, keep, s.keys, s.width, k);
  pack_transposed(s.keys, s.d, a.k + kv, shape.kv_row, keep, k_panels);
  pack_transposed(s.keys, s.d, a.v + kv, shape.kv_row, keep, v_panels);
  std::memset(dk, 0, static_cast<std::size_t>(s.key_rows * s.width) * sizeof(T));
  std::memset(dv, 0, static_cast<std::size_t>(s.key_rows * s.width) * sizeof(T));
  const T* mask = expand_mask(s, keep, mask_row);
  const T scale = softmax_scale<T>(shape);
  const T* lse = a.lse + (w * shape.heads + h) * s.queries;
  for (std::int64_t first = 0; first < s.queries; first += kQueryTile) {
    const std::int64_t rows = std::min(kQueryTile, s.query_rows - first);
    const std::int64_t real = std::min(rows, s.queries - first);
    tile_scores(s, first, rows, q, k_panels, p);
    tile_scores(s, first, rows, dout, v_panels, ds);
    for (std::int64_t i = 0; i < real; ++i) {
      Vec<T> delta{};
      vector_loop<T>(s.d, [&](std::int64_t j, auto part) {
        delta += load(dout + (first + i) * s.width + j, part) *
                 load(a.out + o + (first + i) * o_row + j, part);
      });
      backward_row(s, first + i, scale, mask, lse[first + i], sum_lanes(delta), p + i * s.score_row,
                   ds + i * s.score_row);
    }
    add_transposed(s, first, real, p, dout, dv);
    add_transposed(s, first, real, ds, q, dk);
    tile_times_rows(s, first, rows, ds, k, dq);
    write_rows(real, s, dq, shape.q_row, a.dq + at + first * shape.q_row);
  }
  write_rows(s.keys, s, dk, shape.kv_row, a.dk + kv);
  write_rows(s.keys, s, dv, shape.kv_row, a.dv + kv);
}

}  // namespace

template <typename T>
void attention_forward_tiles(const AttentionForward<T>& a) {
  const AttentionShape& s = a.shape;
  parallel_ranges(s.windows * s.heads, 1, 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) forward(a, i / s.heads, i % s.heads);
  });
}

template <typename T>
void attention_backward_tiles(const AttentionBackward<T>& a) {
  const AttentionShape& s = a.shape;
  parallel_ranges(s.windows * s.heads, 1, 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) backward(a, i / s.heads, i % s.heads);
  });
}

template void attention_forward_tiles(const AttentionForward<float>&);
template void attention_forward_tiles(const AttentionForward<double>&);
template void attention_backward_tiles(const AttentionBackward<float>&);
template void attention_backward_tiles(const AttentionBackward<double>&);

}  // namespace tessera::kernels::cpu
