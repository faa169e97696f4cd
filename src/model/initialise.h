// Initial parameters: N(0, deviation) by counter-based random numbers keyed by (seed, name,
// element), zeros and ones. Independent of ranks, threads and the order of calls.
#pragma once

#include <cstdint>

#include "model/parameter_table.h"

namespace tessera::model {

// Elements [begin, end) of one parameter.
template <typename T>
void initialise_slice(const Parameter& parameter, std::uint64_t seed, std::int64_t begin,
                      std::int64_t end, T* out);

// The whole flat space, padding zeroed.
template <typename T>
void initialise(const ParameterTable& table, std::uint64_t seed, T* flat);

}  // namespace tessera::model
