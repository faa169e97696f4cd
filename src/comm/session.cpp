#include <cstdlib>
#include <exception>
#include <iterator>

#include <mpi.h>

#include "comm/communicator.h"
#include "comm/mpi_communicator.h"

namespace tessera::comm {
namespace {

int g_process_rank = 0;
bool g_many_ranks = false;

// Set by OpenMPI's, MPICH's and Slurm's launchers for the processes they start.
bool launched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

}  // namespace

Session::Session() {
  if (!launched()) {
    world_ = make_single();
    return;
  }
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  owns_mpi_ = true;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  world_ = make_mpi(MPI_COMM_WORLD);
  MPI_Comm local = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local),
            "MPI_Comm_split_type");
  int ranks = 1, rank = 0;
  MPI_Comm_size(local, &ranks);
  MPI_Comm_rank(local, &rank);
  MPI_Comm_free(&local);
  local_ranks_ = ranks;
  local_rank_ = rank;
  g_process_rank = static_cast<int>(world_->rank());
  g_many_ranks = world_->size() > 1;
}

Session::~Session() {
  if (g_many_ranks && std::uncaught_exceptions() > 0) {
    // Other ranks may be waiting in a collective: finalising would wait for them. main aborts.
    (void)world_.release();
    return;
  }
  world_.reset();
  if (owns_mpi_) MPI_Finalize();
  g_many_ranks = false;
}

void Session::abort(int code) {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

bool Session::many_ranks() {
  return g_many_ranks;
}
int Session::process_rank() {
  return g_process_rank;
}

}  // namespace tessera::comm
