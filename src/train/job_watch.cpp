#include "train/job_watch.h"

#include "comm/topology.h"
#include "core/error.h"
#include "core/exit_record.h"

namespace tessera::train {
namespace {

comm::WatchdogOptions options_of(const Config& config, const comm::Communicator& ranks) {
  comm::WatchdogOptions options;
  options.group = comm::make_topology(config, ranks.rank(), ranks.size()).stage;
  options.start_seconds = config.watchdog.start_seconds;
  options.step_seconds = config.watchdog.step_seconds;
  options.checkpoint_seconds = config.watchdog.checkpoint_seconds;
  return options;
}

}  // namespace

JobWatch::JobWatch(const Config& config, comm::Communicator& ranks)
    : comm::Watchdog(ranks.rank(), ranks.size(), comm::exchange_over(ranks),
                     options_of(config, ranks)),
      rank_(ranks.rank()) {}

void JobWatch::open(const std::string& folder) {
  place_ = exit_place(folder);
  set_place(place_);
}

void JobWatch::guard(const std::function<void()>& job) {
  try {
    job();
  } catch (const Error& error) {
    record(exit_code(error.category()), error.what(), "");
    throw;
  } catch (const std::exception& error) {
    record(exit_code(Category::internal), error.what(), "");
    throw;
  }
}

void JobWatch::stopped(StopCause cause, const std::string& checkpoint) {
  if (rank_ == 0)
    record(exit_code(Category::stopped), "stopped on request, saved " + checkpoint,
           cause == StopCause::file ? "file" : "signal");
}

void JobWatch::record(int code, const std::string& reason, const std::string& asked) {
  const comm::Position place = position();
  write_exit_record(
      place_, {code, reason, rank_, place.step, comm::section_name(place.section), {}, asked});
}

}  // namespace tessera::train
