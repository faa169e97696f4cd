// One checkpoint, written by all ranks behind their other work.
//
//   begin    main threads: rank 0 prepares the folder; a thread on every rank writes its part
//   advance  main threads, once ready() on all ranks: rank 0 learns every part; its thread commits
//   advance  main threads, once ready() again: all ranks learn the result
//
// Threads touch files alone. Ranks talk on their main threads alone, and only where all of them
// know that all are ready (training adds ready() up in the reduction that each step has anyway, or
// wait() blocks): so there is nothing to poll, and no second thread in MPI or NCCL.
#pragma once

#include <cstdint>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "comm/communicator.h"
#include "core/file_system.h"

namespace tessera::checkpoints {

// What becomes a checkpoint. What the slices point to stays untouched until the result is there.
struct SaveRequest {
  std::string folder;  // RUN/checkpoints
  TrainingState state;
  std::vector<TensorInfo> tensors;
  std::vector<OwnedSlice> slices;         // this rank's
  std::string tokenizer_json;             // "" where there is none
  std::int64_t keep = 1, keep_every = 0;  // retention afterwards
};

// Alike on all ranks.
struct SaveResult {
  std::int64_t step = 0;
  std::string path;     // of the checkpoint; "" when it failed
  std::string failure;  // why; earlier checkpoints are untouched
  std::string warning;  // it is there, but old ones could not be removed
};

class BackgroundSave {
 public:
  BackgroundSave(FileSystem& files, comm::Communicator& ranks) : files_(files), ranks_(ranks) {}
  // Waits for this rank's thread. A save in flight is left to recover_checkpoints.
  ~BackgroundSave() = default;
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  // Collective: rank 0 tidies the folder, checks that `bytes` are free and creates step-N.tmp. No
  // save may be in flight. "" when all went well, else why not, on every rank; then nothing is left
  // of it.
  std::string prepare(const std::string& folder, std::int64_t step, std::int64_t bytes);
  // After a prepare() that went well: starts writing.
  void begin(SaveRequest request);
  // From prepare() to the result; alike on all ranks.
  bool in_flight() const { return phase_ != Phase::idle; }
  // This rank's thread has done its present work; false when nothing is in flight.
  bool ready() const;
  // Blocks until ready().
  void block() { work_.wait(); }
  // Collective, ready() on every rank: the next phase. The result when that was the last.
  std::optional<SaveResult> advance();
  // Collective, in_flight(): blocks until there is a result.
  SaveResult wait();

 private:
  enum class Phase { idle, prepared, parts, commit };
  std::string write();                                       // on the thread
  std::string commit(const std::vector<PartRecord>& parts);  // on rank 0's thread
  void remove_temporary() noexcept;

  FileSystem& files_;
  comm::Communicator& ranks_;
  Phase phase_ = Phase::idle;
  std::string temporary_;
  SaveRequest request_;
  std::string warning_;
  std::future<std::string> work_;  // last: its destructor waits for what uses the rest
};

}  // namespace tessera::checkpoints
