// Sum of squares in double. The slice is cut into at most kChunks chunks whose size follows from
// `count`; each is summed in a fixed order, then the chunks in theirs.
#include "kernels/squared_norms.h"

#include <algorithm>
#include <array>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {
namespace {

constexpr std::int64_t kChunks = 1024, kSmallestChunk = 4096, kStreams = 4;

// Lanes of `count` elements from p, as doubles.
template <typename T>
inline Vec<double> load_double(const T* p) {
  if constexpr (std::is_same_v<T, double>) {
    return load(p);
  } else {
    typedef T Half __attribute__((vector_size(kVectorBytes / 2)));
    Half half;
    std::memcpy(&half, p, sizeof(half));
    return __builtin_convertvector(half, Vec<double>);
  }
}

template <typename T>
double chunk_sum(const T* x, std::int64_t count) {
  constexpr std::int64_t kStep = kLanes<double>;
  Vec<double> sums[kStreams] = {};
  std::int64_t i = 0;
  for (; i + kStreams * kStep <= count; i += kStreams * kStep)
    for (std::int64_t s = 0; s < kStreams; ++s) {
      const Vec<double> v = load_double(x + i + s * kStep);
      sums[s] += v * v;
    }
  double total = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < count; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

template <typename T>
double squared_norm(const T* x, std::int64_t count) {
  const std::int64_t size = std::max(kSmallestChunk, (count + kChunks - 1) / kChunks);
  const std::int64_t chunks = (count + size - 1) / size;
  std::array<double, kChunks> sums;
  parallel_ranges(chunks, 1, count < kSerialElements ? chunks + 1 : 0,
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t c = begin; c < end; ++c)
                      sums[static_cast<std::size_t>(c)] =
                          chunk_sum(x + c * size, std::min(size, count - c * size));
                  });
  double total = 0;
  for (std::int64_t c = 0; c < chunks; ++c) total += sums[static_cast<std::size_t>(c)];
  return total;
}

}  // namespace

template <typename T>
void squared_norms(const SquaredNorms<T>& a) {
  std::fill_n(a.sums, a.tensors, 0.0);
  for (std::int64_t i = 0; i < a.slice_count; ++i) {
    const TensorSlice& slice = a.slices[i];
    a.sums[slice.tensor] += squared_norm(a.x + slice.offset, slice.count);
  }
}

template void squared_norms(const SquaredNorms<float>&);
template void squared_norms(const SquaredNorms<double>&);

}  // namespace tessera::kernels::cpu
