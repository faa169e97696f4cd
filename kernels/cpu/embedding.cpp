// Token look-up and its backward. In the backward every thread owns the ids that leave its number
// when divided by the number of threads, and walks all rows: a sum's order never changes.
#include "kernels/embedding.h"

#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {
namespace {

void check_ids(const EmbeddingShape& s, const std::int32_t* ids) {
  for (std::int64_t g = 0; g < s.groups; ++g) {
    std::int32_t low = 0, high = 0;
    for (std::int64_t r = 0; r < s.rows; ++r) {
      const std::int32_t id = ids[g * s.ids_group_stride + r];
      low = id < low ? id : low;
      high = id > high ? id : high;
    }
    TESSERA_CHECK(s.rows == 0 || (low >= 0 && high < s.vocab));
  }
}

}  // namespace

template <typename T>
void embedding_forward(const EmbeddingForward<T>& a) {
  const EmbeddingShape& s = a.shape;
  check_ids(s, a.ids);
  parallel_ranges(s.groups * s.rows, 1, kSerialElements / (s.width + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      const std::int64_t g = i / s.rows, r = i % s.rows;
                      const std::int64_t id = a.ids[g * s.ids_group_stride + r];
                      std::memcpy(a.out + g * s.out_group_stride + r * s.stride,
                                  a.table + id * s.width,
                                  static_cast<std::size_t>(s.width) * sizeof(T));
                    }
                  });
}

template <typename T>
void embedding_backward(const EmbeddingBackward<T>& a) {
  const EmbeddingShape& s = a.shape;
  check_ids(s, a.ids);
  const auto share = [&](std::int64_t me, std::int64_t threads) {
    for (std::int64_t g = 0; g < s.groups; ++g)
      for (std::int64_t r = 0; r < s.rows; ++r) {
        const std::int64_t id = a.ids[g * s.ids_group_stride + r];
        if (threads > 1 && id % threads != me) continue;
        const T* from = a.dout + g * s.out_group_stride + r * s.stride;
        T* to = a.dtable + id * s.width;
        vector_loop<T>(s.width, [&](std::int64_t j, auto part) {
          store(to + j, load(to + j, part) + load(from + j, part), part);
        });
      }
  };
  const std::int64_t threads = omp_get_max_threads();
  const bool serial = s.groups * s.rows * s.width < kSerialElements;
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
