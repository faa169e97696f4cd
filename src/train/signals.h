// Requests by signal: SIGUSR1, SIGTERM and SIGINT ask for "finish this step, save, exit 75"; a
// second SIGTERM or SIGINT ends the program at once.
#pragma once

namespace tessera::train {

// Installs the handlers for its lifetime. One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Whether a signal has asked for the stop.
  bool requested() const;
};

}  // namespace tessera::train
