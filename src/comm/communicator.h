// The group of ranks behind one interface: small host-side collectives, and sub-groups. Arrays of a
// device travel through comm/transport.h.
//
// Every rank of a communicator makes the same calls in the same order. Calls block until the data
// may be used. Failures are Error{device} naming the operation. For one layout and message size the
// order of additions is fixed, so results repeat bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tessera::comm {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t size() const = 0;

  // Element-wise sums over ranks, in place, `count` elements.
  virtual void all_reduce(double* data, std::int64_t count) = 0;
  // Rank 0's bytes to all.
  virtual void broadcast(void* data, std::int64_t bytes) = 0;
  // Everybody's text, in rank order, on rank 0 (empty elsewhere).
  virtual std::vector<std::string> gather_text(const std::string& text) = 0;
  virtual void barrier() = 0;
  // The ranks of equal color as a group of their own, in the order of their keys (equal keys: in
  // this group's order). color < 0: in no group, null. Every rank calls it.
  virtual std::unique_ptr<Communicator> split(std::int64_t color, std::int64_t key) = 0;
};

// Rank 0's text on every rank.
std::string broadcast_text(Communicator& communicator, std::string text);

// A world of one, without MPI.
std::unique_ptr<Communicator> make_single();

// The program's MPI session: initialises when the program was started by a launcher (mpirun, srun),
// else stays out of MPI altogether and is a world of one. One per process.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Communicator& world() { return *world_; }
  // Ranks of this job on this host.
  std::int64_t local_ranks() const { return local_ranks_; }
  // This rank's number among them, from 0: which of the host's GPUs is its own.
  std::int64_t local_rank() const { return local_rank_; }
  // Ends every rank with `code`; for errors that other ranks do not know of.
  [[noreturn]] static void abort(int code);
  // True between construction and destruction of a session with more than one rank.
  static bool many_ranks();
  static int process_rank();

 private:
  bool owns_mpi_ = false;
  std::int64_t local_ranks_ = 1, local_rank_ = 0;
  std::unique_ptr<Communicator> world_;
};

}  // namespace tessera::comm
