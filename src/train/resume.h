// Whether a checkpoint may be continued under today's configuration. Every key falls in one class:
//   must match  model.*, seed, train.global_batch, precision, optimizer.betas, .eps, .decay, data
//   digest needs flag  train.steps, optimizer.{lr, warmup, schedule, min_lr_ratio, decay_steps,
//   weight_decay,
//               clip}, data.train, data.padding: allowed with --allow-changes
//   free        everything else
#pragma once

#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "config/config.h"

namespace tessera::train {

struct ResumeCheck {
  std::vector<std::string> refused;  // "model.width: 256 -> 512", must match
  std::vector<std::string> flagged;  // allowed only with the flag
  std::vector<std::string> noted;    // free changes, for the log
};

// `train_digest` is today's TokenSource::digest.
ResumeCheck check_resume(const Config& saved, const Config& now,
                         const checkpoints::TrainingState& state, const std::string& train_digest);

// Error{config} listing what stands against the resume, if anything does.
void require_resumable(const ResumeCheck& check, bool allow_changes, const std::string& checkpoint);

}  // namespace tessera::train
