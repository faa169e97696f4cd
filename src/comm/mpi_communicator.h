// The MPI transport.
#pragma once

#include <memory>

#include <mpi.h>

#include "comm/communicator.h"

namespace tessera::comm {

// Over a duplicate of `parent`, which must outlive nothing: the duplicate is freed with the object.
std::unique_ptr<Communicator> make_mpi(MPI_Comm parent);

// The group behind a communicator of make_mpi or of its split(); MPI_COMM_NULL for any other. It
// stays the communicator's.
MPI_Comm mpi_group(const Communicator& communicator);

// Error{device} with MPI's own words unless code is MPI_SUCCESS.
void check_mpi(int code, const char* operation);

}  // namespace tessera::comm
