// Whether a checkpoint may be continued under today's configuration. Every key falls in one class:
//   must match  model.*, seed, train.global_batch, precision, optimizer.betas, .eps, .decay, and
//   the
//               digest of the training data
//   needs --allow-change KEY  train.steps, optimizer.{lr, warmup, schedule, min_lr_ratio,
//               decay_steps, weight_decay, clip}, data.train (and with it the digest), data.padding
//   free        everything else
#pragma once

#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "config/config.h"

namespace tessera::train {

// Differences, one line each: "model.width: 256 -> 512".
struct ResumeCheck {
  std::vector<std::string> refused;  // must match
  std::vector<std::string> flagged;  // need a flag that was not given
  std::vector<std::string> allowed;  // allowed by flags, for the log
  std::vector<std::string> noted;    // free changes, for the log
};

// `train_digest` is today's TokenSource::digest, `allowed` the keys after --allow-change.
ResumeCheck check_resume(const Config& saved, const Config& now,
                         const checkpoints::TrainingState& state, const std::string& train_digest,
                         const std::vector<std::string>& allowed);

// What stands against the resume, if anything does: Error{data} listing what must match,
// Error{config} listing what needs a flag.
void require_resumable(const ResumeCheck& check, const std::string& checkpoint);

// Error{config} naming the first of `keys` that is none of those that need a flag.
void require_allowable(const std::vector<std::string>& keys);

}  // namespace tessera::train
