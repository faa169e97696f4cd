// Ends a job that hangs. Each rank posts where it is; a thread checks the time limit of the section
// and talks to the other ranks' watchdogs by UDP, since the main thread is stuck in MPI or NCCL.
//
// A few ranks, on different hosts where there are some, are reporters: every rank sends them its
// position once a second. When a rank's limit passes it alarms the reporters; these ask all ranks,
// and a second later tell everybody who is silent or behind. Then every rank, by itself:
//
//   RUN/exit.json -> where it is and the verdict in its log (the lowest reporter: a table of all
//   ranks on standard error) -> flight records -> abort of communication -> grace -> _exit(70)
//
// A rank that no reporter answers does the same with what it knows. The grace lets all ranks finish
// their reports, for mpirun kills the rest when the first one leaves. Time in which this process
// itself was stopped (SIGSTOP) does not count against it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/position.h"
#include "core/exit_record.h"

namespace tessera::comm {

// Every rank's text, in rank order, to every rank: how watchdogs learn each other's addresses.
// Called once, in the constructor, on the caller's thread.
using Exchange = std::function<std::vector<std::string>(const std::string&)>;
Exchange exchange_over(Communicator& ranks);

struct WatchdogOptions {
  double start_seconds = 600;        // section start
  double step_seconds = 600;         // section step; in section evaluation, one micro-batch
  double checkpoint_seconds = 1800;  // sections checkpoint and resume
  double beat_seconds = 1;           // between two beats
  double grace_seconds = 3;          // from a rank's report to its end
  std::int64_t group = 0;            // ranks of one number compute the same (a pipeline stage)
  std::function<void(int)> leave;    // for tests; ends the process when empty
};

class Watchdog {
 public:
  // Collective over the ranks of `exchange`. Section start begins. Without sockets it warns and
  // keeps the limits alone.
  Watchdog(std::int64_t rank, std::int64_t size, const Exchange& exchange, WatchdogOptions options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Where RUN/exit.json goes from now on; before, none is written.
  void set_place(const ExitPlace& place);
  // `abort`: ends communication as soon as possible, called from the watchdog's thread; `record`:
  // text on the last operations. Either may be empty; both are called at most once.
  void set_hooks(std::function<void()> abort, std::function<std::string()> record);

  // This rank's place. Lock-free; the clock starts anew with each section and step, and in section
  // evaluation with each micro-batch.
  void post(Section section, std::int64_t step, std::int64_t micro_batch = 0) noexcept;
  // A collective of all ranks begins; `name` is a literal.
  void post_collective(const char* name) noexcept;
  // A step is done, `seconds` of which this rank computed and waited for nobody.
  void post_computed(double seconds) noexcept;
  Position position() const noexcept;

 private:
  class Loop;
  double limit(Section section) const;

  const WatchdogOptions options_;
  std::atomic<Section> section_ = Section::start;
  std::atomic<std::int64_t> step_ = 0, micro_batch_ = 0, collective_ = 0, steps_ = 0;
  std::atomic<const char*> name_ = "";
  std::atomic<double> computed_ = 0;
  std::atomic<double> since_;  // when the clock was started

  std::mutex mutex_;  // what follows is set seldom
  ExitPlace place_;
  std::function<void()> abort_;
  std::function<std::string()> record_;

  std::unique_ptr<Loop> loop_;
  std::thread thread_;
};

}  // namespace tessera::comm
