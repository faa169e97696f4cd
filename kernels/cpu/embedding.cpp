// Token look-up and its backward. In the backward every thread owns the ids that leave its number
// when divided by the number of threads, and walks all rows: a sum's order never changes.
#include "kernels/embedding.h"

#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {
namespace {

// Row numbers run over batches, groups and rows of a group.
struct Place {
  std::int64_t id, out;  // element of ids, first element of out
};
Place place(const EmbeddingShape& s, std::int64_t i) {
  const std::int64_t b = i / (s.groups * s.rows), g = i / s.rows % s.groups, r = i % s.rows;
  return {b * s.ids_batch_stride + g * s.ids_group_stride + r,
          b * s.out_batch_stride + g * s.out_group_stride + r * s.stride};
}

std::int64_t row_count(const EmbeddingShape& s) {
  return s.batches * s.groups * s.rows;
}

void check_ids(const EmbeddingShape& s, const std::int32_t* ids) {
  std::int32_t low = 0, high = 0;
  for (std::int64_t i = 0; i < row_count(s); i += s.rows) {
    const std::int32_t* from = ids + place(s, i).id;
    for (std::int64_t r = 0; r < s.rows; ++r) {
      low = from[r] < low ? from[r] : low;
      high = from[r] > high ? from[r] : high;
    }
  }
  TESSERA_CHECK(row_count(s) == 0 || (low >= 0 && high < s.vocab));
}

}  // namespace

template <typename T>
void embedding_forward(const EmbeddingForward<T>& a) {
  const EmbeddingShape& s = a.shape;
  check_ids(s, a.ids);
  parallel_ranges(row_count(s), 1, kSerialElements / (s.width + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      const Place at = place(s, i);
                      std::memcpy(a.out + at.out, a.table + a.ids[at.id] * s.width,
                                  static_cast<std::size_t>(s.width) * sizeof(T));
                    }
                  });
}

template <typename T>
void embedding_backward(const EmbeddingBackward<T>& a) {
  const EmbeddingShape& s = a.shape;
  check_ids(s, a.ids);
  const auto share = [&](std::int64_t me, std::int64_t threads) {
    for (std::int64_t i = 0; i < row_count(s); ++i) {
      const Place at = place(s, i);
      const std::int64_t id = a.ids[at.id];
      if (threads > 1 && id % threads != me) continue;
      const T* from = a.dout + at.out;
      T* to = a.dtable + id * s.width;
      vector_loop<T>(s.width, [&](std::int64_t j, auto part) {
        store(to + j, load(to + j, part) + load(from + j, part), part);
      });
    }
  };
  const std::int64_t threads = omp_get_max_threads();
  const bool serial = row_count(s) * s.width < kSerialElements;
  parallel_ranges(threads, 1, serial ? threads + 1 : 0, [&](std::int64_t begin, std::int64_t end) {
    if (begin == 0 && end == threads)
      share(0, 1);
    else
      for (std::int64_t me = begin; me < end; ++me) share(me, threads);
  });
}

template void embedding_forward(const EmbeddingForward<float>&);
template void embedding_forward(const EmbeddingForward<double>&);
template void embedding_backward(const EmbeddingBackward<float>&);
template void embedding_backward(const EmbeddingBackward<double>&);

}  // namespace tessera::kernels::cpu
