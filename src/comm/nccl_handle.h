// A communicator of NCCL: started within a time limit, every result checked, aborted from any
// thread. Only in builds with NCCL.
//
// It is non-blocking (blocking = 0): no call of NCCL holds a thread, so the watchdog's abort() gets
// in between any two, and call() polls until what it asked for has been given to the stream.
#pragma once

#ifdef TESSERA_HAS_NCCL

#include <atomic>
#include <mutex>
#include <string>

#include <nccl.h>

#include "comm/communicator.h"

namespace tessera::comm {

class NcclHandle {
 public:
  // The id travels over `group`, whose ranks have met. `name`: of the group, in messages.
  // Error{device} when NCCL refuses, or has not connected all ranks within start_seconds.
  // `most_blocks`: thread blocks (multiprocessors) of an operation at most; 0 = NCCL's choice.
  NcclHandle(Communicator& group, std::string name, double start_seconds, int most_blocks);
  // Ends in agreement with the other ranks; in an exception's unwinding, by abort().
  ~NcclHandle();
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;

  // Runs `ask(communicator)`, which calls NCCL and returns its result, and waits until NCCL has
  // given its work to the stream (not until that is done). Error{device} naming `operation` and
  // `sequence` with NCCL's own words.
  template <typename F>
  void call(const char* operation, std::int64_t sequence, const F& ask) {
    {
      const std::lock_guard lock(mutex_);
      require_living(operation, sequence);
      check(ask(comm_), operation, sequence);
    }
    settle(operation, sequence);
  }

  // Ends all operations of this rank, on the host and on the GPU; later calls fail. From any
  // thread.
  void abort() noexcept;

 private:
  // The next two: mutex_ is held.
  void require_living(const char* operation, std::int64_t sequence) const;
  void check(ncclResult_t result, const char* operation, std::int64_t sequence) const;
  // False while NCCL is still at work.
  bool settled(const char* operation, std::int64_t sequence);
  void settle(const char* operation, std::int64_t sequence);
  void start(Communicator& group, double seconds, int most_blocks);
  void finish() noexcept;

  const std::string name_;
  const std::int64_t rank_, size_;
  std::timed_mutex mutex_;
  std::atomic<bool> aborted_ = false;
  ncclComm_t comm_ = nullptr;  // null before the start and after the end
};

}  // namespace tessera::comm

#endif
