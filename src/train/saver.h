// Checkpoints of a training run, written behind the steps: what is due, what is in flight, what
// went wrong.
//
// A save stops training for a copy of the state into host memory. Files are written meanwhile
// (checkpoints/background_save.h), and a later step finds the save done. At most one is in flight:
// a save that is due before the last one is done waits for it first.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "checkpoints/background_save.h"
#include "comm/communicator.h"
#include "config/config.h"
#include "core/progress.h"
#include "data/token_source.h"
#include "parallel/engine.h"
#include "train/job_watch.h"
#include "train/metrics.h"

namespace tessera::train {

// Failed saves in a row that end the run.
inline constexpr int kMostBadSaves = 3;

// What a saver works with. `source`: the training data; `metrics`: on rank 0, else null.
struct SaverParts {
  const Config& config;
  parallel::Engine& engine;
  comm::Communicator& ranks;
  JobWatch& watch;
  ProgressLine& progress;
  const data::TokenSource& source;
  MetricsFile* metrics = nullptr;
};

class Saver {
 public:
  // `folder`: RUN/checkpoints. `path` and `step`: of the checkpoint that the run went on from, ""
  // and -1 where there is none. Reserves the host memory for copies of the state.
  Saver(const SaverParts& parts, std::string folder, std::string path, std::int64_t step);

  // All collective, in the same order on all ranks. Error{io} on all of them when it was the last
  // failure allowed.
  //
  // Saves `state` unless that step is saved or about to be. Returns when the copy is made.
  void save(const checkpoints::TrainingState& state, const std::string& tokenizer_json);
  // 1 when this rank waits for the others to go on with the save in flight, else 0: to be summed
  // over ranks in each step. After `step` steps a sum of all ranks is what advance() is for.
  double ready();
  void advance(double ready_ranks, std::int64_t step);
  // Waits for the save in flight, if there is one.
  void finish(std::int64_t step);

  // The newest checkpoint that is complete, and its step; "" and -1 before the first.
  const std::string& path() const { return path_; }
  std::int64_t step() const { return step_; }

 private:
  using Clock = std::chrono::steady_clock;
  void close(const checkpoints::SaveResult& result, std::int64_t step);
  void failed(std::int64_t step, const std::string& reason);

  const SaverParts parts_;
  const std::string folder_;
  std::string path_;
  std::int64_t step_, begun_step_ = -1;
  int bad_saves_ = 0;
  Clock::time_point begun_;
  double staged_ = 0;                       // seconds
  checkpoints::BackgroundSave background_;  // last: its thread reads what engine_ keeps
};

}  // namespace tessera::train
