// The parallel residual's join.
#include "kernels/residual.h"

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {

template <typename T>
void residual_join(const ResidualJoin<T>& a) {
  parallel_ranges(a.count, kLanes<T>, kSerialElements, [&](std::int64_t begin, std::int64_t end) {
    vector_loop<T>(end - begin, [&](std::int64_t i, auto part) {
      i += begin;
      store(a.y + i, load(a.x + i, part) + load(a.a + i, part) + load(a.b + i, part), part);
    });
  });
}

template void residual_join(const ResidualJoin<float>&);
template void residual_join(const ResidualJoin<double>&);

}  // namespace tessera::kernels::cpu
