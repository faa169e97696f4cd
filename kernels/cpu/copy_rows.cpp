// Copies between strided layouts: the runs of a group lie side by side on both ends.
#include "kernels/copy_rows.h"

#include <cstring>

#include "kernels/cpu/parallel.h"

namespace tessera::kernels::cpu {

template <typename T>
void copy_rows(const CopyRows<T>& a) {
  const std::int64_t count = a.runs_a_group * a.width;
  parallel_ranges(a.batches * a.groups, 1, kSerialElements / (count + 1),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      const std::int64_t b = i / a.groups, g = i % a.groups;
                      std::memcpy(a.to + b * a.to_batch + g * a.to_group,
                                  a.from + b * a.from_batch + g * a.from_group,
                                  static_cast<std::size_t>(count) * sizeof(T));
                    }
                  });
}

template void copy_rows(const CopyRows<float>&);
template void copy_rows(const CopyRows<double>&);

}  // namespace tessera::kernels::cpu
