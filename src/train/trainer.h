// The training loop.
//
//   set up (data, engine, memory) -> resume or initialise -> steps -> save
//   a step: micro-batches -> reduce -> agree -> skip or clip + AdamW -> metrics -> eval? save?
//   stop?
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "config/config.h"
#include "eval/loss.h"

namespace tessera::train {

struct TrainOptions {
  bool fresh = false;        // start over: an earlier run's checkpoints and metrics are removed
  bool verify_data = false;  // read and check all shards first
  bool no_fallback = false;  // only the newest checkpoint will do
  std::vector<std::string>
      allow_change;  // keys that may differ from the checkpoint's (train/resume.h)
};

struct TrainOutcome {
  std::int64_t first_step = 0, step = 0;  // steps done before and after
  bool stopped = false;                   // a person or signal asked; saved
  std::string checkpoint;                 // the last one written or found
  double loss = 0;                        // of the last step
  std::optional<eval::LossResult> evaluation;
  double seconds = 0;
};

// Trains as `config` says; call alike on every rank. Errors: config, data, io, device; Disagreement
// after ten non-finite steps in a row.
TrainOutcome train(const Config& config, const TrainOptions& options, comm::Session& session);

}  // namespace tessera::train
