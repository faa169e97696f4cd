// Copies between strided layouts: the runs of a group lie side by side on both ends.
#include "kernels/copy_rows.h"

#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {

template <typename T>
void copy_rows(const CopyRows<T>& a) {
  const std::int64_t count = a.runs_a_group * a.width;
  parallel_ranges(a.groups, 1, kSerialElements / (count + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t g = begin; g < end; ++g) {
                      const T* from = a.from + g * a.from_group;
                      T* to = a.to + g * a.to_group;
                      if (a.add)
                        vector_loop<T>(count, [&](std::int64_t i, auto part) {
                          store(to + i, load(to + i, part) + load(from + i, part), part);
                        });
                      else
                        std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
                    }
                  });
}

template void copy_rows(const CopyRows<float>&);
template void copy_rows(const CopyRows<double>&);

}  // namespace tessera::kernels::cpu
