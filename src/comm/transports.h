// The transports that make_transport() chooses from. The ranks of `group` have met.
#pragma once

#include <memory>

#include "comm/transport.h"

namespace tessera::comm {

// A group of one: every operation is done before it begins.
std::unique_ptr<Transport> make_solo_transport();
// Arrays in host memory. `group` is a communicator of MPI.
std::unique_ptr<Transport> make_mpi_transport(Communicator& group, const TransportOptions& options);
// Arrays in the memory of options.device (the CPU's too, for tests), through page-locked host
// memory and `host`.
std::unique_ptr<Transport> make_staged_transport(std::unique_ptr<Transport> host,
                                                 const TransportOptions& options);
#ifdef TESSERA_HAS_NCCL
// Arrays in the current GPU's memory; also for a group of one.
std::unique_ptr<Transport> make_nccl_transport(Communicator& group,
                                               const TransportOptions& options);
#endif

}  // namespace tessera::comm
