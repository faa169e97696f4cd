// Softmax cross entropy: a row's maximum, its exponentials and their sum, then the gradient, while
// the row is in cache.
#include "kernels/cross_entropy.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace tessera::kernels::cpu {
namespace {

constexpr std::int64_t kStreams = 4;

template <typename T>
T row_maximum(const T* z, std::int64_t n) {
  Vec<T> most[kStreams];
  for (Vec<T>& m : most) m = broadcast(-std::numeric_limits<T>::infinity());
  std::int64_t i = 0;
  for (; i + kStreams * kLanes<T> <= n; i += kStreams * kLanes<T>)
    for (std::int64_t s = 0; s < kStreams; ++s)
      most[s] = maximum(most[s], load(z + i + s * kLanes<T>));
  T result = max_lanes(maximum(maximum(most[0], most[1]), maximum(most[2], most[3])));
  for (; i < n; ++i) result = result > z[i] ? result : z[i];
  return result;
}

// sum exp(z - shift); the exponentials replace z where `keep`.
template <bool keep, typename T>
T row_exponentials(T* z, std::int64_t n, T shift) {
  Vec<T> sums[2] = {};
  const auto at = [&](std::int64_t i, auto part) {
    const Vec<T> e = exp(load(z + i, part) - shift);
    if constexpr (keep) store(z + i, e, part);
    return e;
  };
  std::int64_t i = 0;
  for (; i + 2 * kLanes<T> <= n; i += 2 * kLanes<T>) {
    sums[0] += at(i, Whole{});
    sums[1] += at(i + kLanes<T>, Whole{});
  }
  T total = sum_lanes(sums[0] + sums[1]);
  for (; i < n; i += kLanes<T>) {
    const std::int64_t count = std::min(kLanes<T>, n - i);
    const Vec<T> e = at(i, Partial{count});
    for (std::int64_t lane = 0; lane < count; ++lane) total += e[lane];
  }
  return total;
}

template <typename T>
void row(const CrossEntropy<T>& a, std::int64_t r) {
  T* z = a.logits + r * (a.stride ? a.stride : a.vocab);
  const std::int32_t target = a.targets[a.target_index(r)];
  if (target < 0) {
    a.losses[r] = 0;
    if (a.gradient)
      for (std::int64_t v = 0; v < a.vocab; ++v) z[v] = 0;
    return;
  }
  const T most = row_maximum(z, a.vocab), at_target = z[target];
  const T sum = a.gradient ? row_exponentials<true>(z, a.vocab, most)
                           : row_exponentials<false>(z, a.vocab, most);
  a.losses[r] = std::log(sum) + (most - at_target);
  if (!a.gradient) return;
  const T weight = *a.weight, scale = weight / sum;
  vector_loop<T>(a.vocab,
                 [&](std::int64_t i, auto part) { store(z + i, scale * load(z + i, part), part); });
  z[target] -= weight;
}

}  // namespace

template <typename T>
void cross_entropy(const CrossEntropy<T>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) TESSERA_CHECK(a.targets[a.target_index(r)] < a.vocab);
  parallel_ranges(a.rows, 1, kSerialElements / (a.vocab + 1) / 8,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) row(a, r);
                  });
}

template void cross_entropy(const CrossEntropy<float>&);
template void cross_entropy(const CrossEntropy<double>&);

}  // namespace tessera::kernels::cpu
