// What a training job tells those who watch over it: its place to the watchdog, and at its end,
// when that is not 0, why, in RUN/exit.json.
#pragma once

#include <functional>
#include <string>

#include "comm/communicator.h"
#include "comm/watchdog.h"
#include "config/config.h"

namespace tessera::train {

// Who asked for a stop that ends the job with 75; signals of other ranks are signals.
enum class StopCause { none, signal, file };

class JobWatch : public comm::Watchdog {
 public:
  // Collective. The limits are those of `watchdog.*`.
  JobWatch(const Config& config, comm::Communicator& ranks);

  // The run's folder is locked for this job, on every rank: records go there from now on.
  void open(const std::string& folder);
  // Runs the job; when it throws, writes the record and lets the exception go on.
  void guard(const std::function<void()>& job);
  // Rank 0 of a job that was stopped on request and has saved `checkpoint`; before the ranks meet
  // for the last time, since the first to leave with another code than 0 ends the others.
  void stopped(StopCause cause, const std::string& checkpoint);

 private:
  void record(int code, const std::string& reason, const std::string& asked);
  const std::int64_t rank_;
  ExitPlace place_;
};

}  // namespace tessera::train
