// How many threads this process computes with.
#pragma once

#include <cstdint>

namespace tessera {

// Sets OpenMP's thread count to cores / processes on this machine (at least 1), or to
// OMP_NUM_THREADS where that is set, and returns it. When a launcher has bound the process to fewer
// processors than that (mpirun does for one or two ranks), the binding is lifted.
std::int64_t use_threads(std::int64_t processes);

}  // namespace tessera
