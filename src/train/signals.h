// Requests by signal: SIGUSR1, SIGTERM and SIGINT ask for "finish this step, save, exit 75"; a
// second SIGTERM or SIGINT ends the program at once.
//
// Handlers run on a thread of their own and are blocked on the thread that constructs this object
// and on those it starts later: a handler's frame on the stack of a thread inside oneDNN's
// generated matrix-product code corrupts memory (measured: heap corruption in 11 of 25 runs that
// were sent SIGUSR1 while training).
#pragma once

#include <atomic>
#include <thread>

#include <signal.h>

namespace tessera::train {

// Installs the handlers for its lifetime. One at a time; construct it before threads that compute.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Whether a signal has asked for the stop.
  bool requested() const;

 private:
  sigset_t previous_mask_;
  std::atomic<bool> ending_ = false;
  std::thread receiver_;
};

}  // namespace tessera::train
