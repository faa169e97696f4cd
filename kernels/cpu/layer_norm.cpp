// Layer normalisation with one or two outputs. A row stays in the first-level cache between its
// passes; the backward's parameter gradients are summed a thread, then over threads in order.
#include "kernels/layer_norm.h"

#include <cmath>
#include <cstring>

#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {
namespace {

// Sums term(i, part) over a row in four running vectors.
template <typename T, typename Term>
inline T row_sum(std::int64_t n, Term term) {
  constexpr std::int64_t kStep = kLanes<T>;
  Vec<T> sums[4] = {};
  std::int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep)
    for (std::int64_t s = 0; s < 4; ++s) sums[s] += term(i + s * kStep, Whole{});
  for (; i + kStep <= n; i += kStep) sums[0] += term(i, Whole{});
  if (i < n) sums[1] += term(i, Partial{n - i});
  return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Zero in the lanes that a partial vector leaves out.
template <typename V>
inline V cut(V v, Whole) {
  return v;
}
template <typename V>
inline V cut(V v, Partial part) {
  return lane_numbers<Element<V>>() < static_cast<Element<V>>(part.count) ? v : V{};
}

template <typename T>
void normalise_row(const LayerNormForward<T>& a, std::int64_t r) {
  const std::int64_t width = a.width;
  const T* x = a.x + r * width;
  const T over = T{1} / static_cast<T>(width);
  const T mean =
      over * row_sum<T>(width, [&](std::int64_t i, auto part) { return load(x + i, part); });
  const T variance = over * row_sum<T>(width, [&](std::int64_t i, auto part) {
                       const Vec<T> d = cut(load(x + i, part) - mean, part);
                       return d * d;
                     });
  const T rstd = T{1} / std::sqrt(variance + static_cast<T>(a.eps));
  T* y1 = a.y1 + r * width;
  T* y2 = a.y2 ? a.y2 + r * width : nullptr;
  vector_loop<T>(width, [&](std::int64_t i, auto part) {
    const Vec<T> xhat = (load(x + i, part) - mean) * rstd;
    store(y1 + i, xhat * load(a.gain1 + i, part) + load(a.bias1 + i, part), part);
    if (y2) store(y2 + i, xhat * load(a.gain2 + i, part) + load(a.bias2 + i, part), part);
  });
  if (a.mean) a.mean[r] = mean;
  if (a.rstd) a.rstd[r] = rstd;
}

// Parameter gradients of some rows: dgain1, dbias1, dgain2, dbias2, [D] each from one block.
template <typename T>
struct Sums {
  T *gain1, *bias1, *gain2, *bias2;
  Sums(T* block, std::int64_t width)
      : gain1(block), bias1(block + width), gain2(block + 2 * width), bias2(block + 3 * width) {}
};

template <bool two, typename T>
void backward_row(const LayerNormBackward<T>& a, std::int64_t r, const Sums<T>& sums) {
  const std::int64_t width = a.width;
  const T *x = a.x + r * width, *dy1 = a.dy1 + r * width;
  const T* dy2 = two ? a.dy2 + r * width : nullptr;
  const T mean = a.mean[r], rstd = a.rstd[r], over = T{1} / static_cast<T>(width);
  const auto gradient = [&](std::int64_t i, auto part) {  // of xhat
    Vec<T> d = load(dy1 + i, part) * load(a.gain1 + i, part);
    if constexpr (two) d += load(dy2 + i, part) * load(a.gain2 + i, part);
    return d;
  };
  Vec<T> sum[2] = {}, product[2] = {};
  std::int64_t turn = 0;
  vector_loop<T>(width, [&](std::int64_t i, auto part) {
    const Vec<T> xhat = (load(x + i, part) - mean) * rstd, d = gradient(i, part);
    sum[turn & 1] += d;
    product[turn++ & 1] += d * xhat;
    const Vec<T> g1 = load(dy1 + i, part);
    store(sums.gain1 + i, load(sums.gain1 + i, part) + g1 * xhat, part);
    store(sums.bias1 + i, load(sums.bias1 + i, part) + g1, part);
    if constexpr (two) {
      const Vec<T> g2 = load(dy2 + i, part);
      store(sums.gain2 + i, load(sums.gain2 + i, part) + g2 * xhat, part);
      store(sums.bias2 + i, load(sums.bias2 + i, part) + g2, part);
    }
  });
  const T mean_d = over * sum_lanes(sum[0] + sum[1]);
  const T mean_dx = over * sum_lanes(product[0] + product[1]);
  T* dx = a.dx + r * width;
  const T* residual = a.dresidual ? a.dresidual + r * width : nullptr;
  vector_loop<T>(width, [&](std::int64_t i, auto part) {
    const Vec<T> xhat = (load(x + i, part) - mean) * rstd;
    Vec<T> value = rstd * (gradient(i, part) - mean_d - xhat * mean_dx);
    if (residual) value += load(residual + i, part);
    store(dx + i, value, part);
  });
}

template <typename T>
void add_to(std::int64_t width, const T* from, T* to) {
  vector_loop<T>(width, [&](std::int64_t i, auto part) {
    store(to + i, load(to + i, part) + load(from + i, part), part);
  });
}

}  // namespace

template <typename T>
void layer_norm_forward(const LayerNormForward<T>& a) {
  parallel_ranges(a.rows, 1, kSerialElements / (a.width + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) normalise_row(a, r);
                  });
}

template <typename T>
void layer_norm_backward(const LayerNormBackward<T>& a) {
  // Before dx, which may lie over dresidual.
  if (a.dsum1) add_rows(a.rows, a.width, a.width, a.dresidual, a.dsum1);
  if (a.dsum2) add_rows(a.rows, a.width, a.width, a.dresidual, a.dsum2);
  // One block of sums a thread; how rows fall to threads follows from `rows` and the thread count.
  struct Blocks;
  const std::int64_t threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  const bool serial = a.rows * a.width < kSerialElements;
  const std::int64_t parts = serial ? 1 : threads;
  T* blocks = scratch<T, Blocks>(parts * 4 * a.width);
  std::memset(blocks, 0, static_cast<std::size_t>(parts * 4 * a.width) * sizeof(T));
  const auto part_rows = [&](std::int64_t part) {
    const Sums<T> sums(blocks + part * 4 * a.width, a.width);
    const std::int64_t end = a.rows * (part + 1) / parts;
    for (std::int64_t r = a.rows * part / parts; r < end; ++r)
      a.dy2 ? backward_row<true>(a, r, sums) : backward_row<false>(a, r, sums);
  };
  parallel_ranges(parts, 1, 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t part = begin; part < end; ++part) part_rows(part);
  });
  for (std::int64_t part = 0; part < parts; ++part) {
    const Sums<T> sums(blocks + part * 4 * a.width, a.width);
    add_to(a.width, sums.gain1, a.dgain1);
    add_to(a.width, sums.bias1, a.dbias1);
    if (!a.dy2) continue;
    add_to(a.width, sums.gain2, a.dgain2);
    add_to(a.width, sums.bias2, a.dbias2);
  }
}

template void layer_norm_forward(const LayerNormForward<float>&);
template void layer_norm_forward(const LayerNormForward<double>&);
template void layer_norm_backward(const LayerNormBackward<float>&);
template void layer_norm_backward(const LayerNormBackward<double>&);

}  // namespace tessera::kernels::cpu
