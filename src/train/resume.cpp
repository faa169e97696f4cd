#include "train/resume.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "config/load.h"
#include "core/error.h"

namespace tessera::train {
namespace {

constexpr std::array<std::string_view, 6> kMustMatch = {
    "model.", "seed", "train.global_batch", "precision", "optimizer.betas", "optimizer.decay"};
constexpr std::array<std::string_view, 10> kNeedsFlag = {"train.steps",
                                                         "optimizer.lr",
                                                         "optimizer.warmup",
                                                         "optimizer.schedule",
                                                         "optimizer.min_lr_ratio",
                                                         "optimizer.decay_steps",
                                                         "optimizer.weight_decay",
                                                         "optimizer.clip",
                                                         "data.train",
                                                         "data.padding"};

bool must_match(const std::string& key) {
  return key == "optimizer.eps" ||
         std::any_of(kMustMatch.begin(), kMustMatch.end(), [&](std::string_view k) {
           return k.back() == '.' ? key.starts_with(k) : key == k;
         });
}

bool needs_flag(const std::string& key) {
  return std::find(kNeedsFlag.begin(), kNeedsFlag.end(), key) != kNeedsFlag.end();
}

std::string join(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : "; ") + item;
  return text;
}

}  // namespace

ResumeCheck check_resume(const Config& saved, const Config& now,
                         const checkpoints::TrainingState& state, const std::string& train_digest) {
  ResumeCheck check;
  bool data_changed = false;
  for (const ConfigDifference& d : config_differences(saved, now)) {
    const std::string line = d.key + ": " + d.before + " -> " + d.after;
    data_changed = data_changed || d.key == "data.train";
    (must_match(d.key)   ? check.refused
     : needs_flag(d.key) ? check.flagged
                         : check.noted)
        .push_back(line);
  }
  if (!state.train_digest.empty() && state.train_digest != train_digest)
    (data_changed ? check.flagged : check.refused)
        .push_back("training data digest: " + state.train_digest.substr(0, 12) + "... -> " +
                   train_digest.substr(0, 12) + "...");
  return check;
}

void require_resumable(const ResumeCheck& check, bool allow_changes,
                       const std::string& checkpoint) {
  if (!check.refused.empty())
    throw Error(Category::config, checkpoint + " cannot be continued with this configuration: " +
                                      join(check.refused) +
                                      "; undo the change or start another run.name");
  if (!check.flagged.empty() && !allow_changes)
    throw Error(Category::config, checkpoint + ": continuing would change the run's course: " +
                                      join(check.flagged) + "; give --allow-changes to mean it");
}

}  // namespace tessera::train
