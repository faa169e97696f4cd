#include "kernels/cache_rows.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/rotary.h"

namespace tessera::kernels::cpu {

template <typename T>
void cache_rows(const CacheRows<T>& a) {
  Rotary<T> rotate;
  rotate.rows = a.windows * a.length;
  rotate.heads = a.heads;
  rotate.head_size = a.head_size;
  rotate.rotary = a.rotary;
  rotate.length = a.length;
  rotate.first_position = a.first_position;
  rotate.cos = a.cos;
  rotate.sin = a.sin;
  rotate.qkv = a.qkv;
  rotary(rotate);
  const std::int64_t width = a.heads * a.head_size;
  parallel_ranges(a.windows * a.length, 1, kSerialElements / (2 * width + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t r = begin; r < end; ++r) {
                      const std::int64_t to =
                          r / a.length * a.cache_window + r % a.length * a.cache_row;
                      const T* row = a.qkv + r * 3 * width;
                      for (std::int64_t h = 0; h < a.heads; ++h) {
                        const T* k = row + (3 * h + 1) * a.head_size;
                        std::copy_n(k, a.head_size, a.keys + to + h * a.head_size);
                        std::copy_n(k + a.head_size, a.head_size, a.values + to + h * a.head_size);
                      }
                    }
                  });
}

template void cache_rows(const CacheRows<float>&);
template void cache_rows(const CacheRows<double>&);

}  // namespace tessera::kernels::cpu
