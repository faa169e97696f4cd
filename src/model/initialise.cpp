#include "model/initialise.h"

#include <algorithm>

#include "core/random.h"

namespace tessera::model {

template <typename T>
void initialise_slice(const Parameter& parameter, std::uint64_t seed, std::int64_t begin,
                      std::int64_t end, T* out) {
  if (parameter.initial != Initial::normal) {
    std::fill_n(out, end - begin, parameter.initial == Initial::ones ? T{1} : T{0});
    return;
  }
  const CounterRandom random(seed, hash_name(parameter.name));
#pragma omp parallel for schedule(static)
  for (std::int64_t i = begin; i < end; ++i)
    out[i - begin] =
        static_cast<T>(parameter.deviation * random.normal(static_cast<std::uint64_t>(i)));
}

template <typename T>
void initialise(const ParameterTable& table, std::uint64_t seed, T* flat) {
  std::fill_n(flat, table.flat_size(), T{0});
  for (const Parameter& p : table.parameters())
    initialise_slice(p, seed, 0, p.count, flat + p.offset);
}

template void initialise_slice(const Parameter&, std::uint64_t, std::int64_t, std::int64_t, float*);
template void initialise_slice(const Parameter&, std::uint64_t, std::int64_t, std::int64_t,
                               double*);
template void initialise(const ParameterTable&, std::uint64_t, float*);
template void initialise(const ParameterTable&, std::uint64_t, double*);

}  // namespace tessera::model
