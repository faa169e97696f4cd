// Sum in double, element after element.
#include "kernels/sum.h"

namespace tessera::kernels::cpu {

template <typename T>
void sum(const Sum<T>& a) {
  double total = 0;
  for (std::int64_t i = 0; i < a.count; ++i) total += static_cast<double>(a.x[i]);
  *a.sum += total;
}

template void sum(const Sum<float>&);
template void sum(const Sum<double>&);

}  // namespace tessera::kernels::cpu
