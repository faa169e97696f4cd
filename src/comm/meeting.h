// The start of a group with a time limit. MPI's own collectives wait for an absent rank for ever
// and never say for which; a meeting names it.
#pragma once

#include <string>

#include <mpi.h>

namespace tessera::comm {

// Returns when every rank of `group` has called it. Error{device} on every rank that came, naming
// the absent ones (as ranks of MPI_COMM_WORLD), when `seconds` have passed; and at once when ranks
// come with different `name`s, which means that they do different things.
void meet(MPI_Comm group, const std::string& name, double seconds);

}  // namespace tessera::comm
