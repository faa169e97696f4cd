// RUN/exit.json: why a job of a run left with another code than 0. Launchers see one number of
// mpirun, often its own; launch/supervise.sh reads this file to know what happened.
//
//   {"code": 70, "reason": "one sentence", "rank": 1, "step": 12, "section": "step",
//    "behind": [2], "asked": "", "time": "2026-01-31T12:00:00Z"}, one key a line
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

struct ExitRecord {
  int code = 70;
  std::string reason;
  std::int64_t rank = 0;  // which wrote it
  std::int64_t step = 0;  // that rank's: being worked on, or done last
  std::string section;    // what that rank was at: start, resume, step, evaluation, checkpoint
  std::vector<std::int64_t> behind;  // ranks that held the others up, where known
  std::string asked;                 // code 75: "file" or "signal", whatever asked for the stop
};

// FOLDER/exit.json.
std::string exit_record_path(const std::string& folder);

// A run folder, and what its lock file said of the job that may write there.
struct ExitPlace {
  std::string folder, holder;
};
// The place of the job that holds the lock of `folder` now.
ExitPlace exit_place(const std::string& folder) noexcept;

// Writes it, whole or not at all. The first record of a job stands (what follows is mostly its
// consequence), and a straggler of an earlier job writes nothing: false when there is a record
// already, another job holds the folder, or the file system refuses. Safe from any thread.
bool write_exit_record(const ExitPlace& place, const ExitRecord& record) noexcept;

// Removes the record of an earlier job.
void remove_exit_record(const std::string& folder) noexcept;

// "2026-01-31T12:00:00Z", now.
std::string utc_time();

}  // namespace tessera
