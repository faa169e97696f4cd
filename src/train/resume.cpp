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

std::string listed() {
  std::string text;
  for (const std::string_view key : kNeedsFlag)
    text += (text.empty() ? "" : ", ") + std::string(key);
  return text;
}

std::string join(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : "; ") + item;
  return text;
}

}  // namespace

ResumeCheck check_resume(const Config& saved, const Config& now,
                         const checkpoints::TrainingState& state, const std::string& train_digest,
                         const std::vector<std::string>& allowed) {
  ResumeCheck check;
  const auto flagged = [&](const std::string& key, const std::string& line) {
    const bool may = std::find(allowed.begin(), allowed.end(), key) != allowed.end();
    (may ? check.allowed : check.flagged).push_back(line);
  };
  std::string data_key;  // the one that explains another digest
  for (const ConfigDifference& d : config_differences(saved, now)) {
    const std::string line = d.key + ": " + d.before + " -> " + d.after;
    if (d.key == "data.train" || d.key == "data.padding") data_key = d.key;
    if (needs_flag(d.key))
      flagged(d.key, line);
    else
      (must_match(d.key) ? check.refused : check.noted).push_back(line);
  }
  if (!state.train_digest.empty() && state.train_digest != train_digest) {
    const std::string line = "digest of data.train: " + state.train_digest.substr(0, 12) +
                             "... -> " + train_digest.substr(0, 12) + "...";
    if (!data_key.empty())
      flagged(data_key, line);
    else
      check.refused.push_back(line);
  }
  return check;
}

void require_resumable(const ResumeCheck& check, const std::string& checkpoint) {
  if (!check.refused.empty())
    throw Error(Category::data, checkpoint + " cannot be continued with this configuration: " +
                                    join(check.refused) +
                                    "; undo the change or start another run.name");
  if (check.flagged.empty()) return;
  std::string flags;
  for (const std::string& line : check.flagged)
    if (line.find(':') < line.find(' '))
      flags += " --allow-change " + line.substr(0, line.find(':'));
  throw Error(Category::config, checkpoint + ": continuing would change the run's course: " +
                                    join(check.flagged) + "; to mean it, give" + flags);
}

void require_allowable(const std::vector<std::string>& keys) {
  for (const std::string& key : keys)
    if (!needs_flag(key))
      throw Error(Category::config,
                  "--allow-change " + key + ": " +
                      (must_match(key) ? "can never change in a run; start another run.name"
                                       : "no key that needs it; those are " + listed()));
}

}  // namespace tessera::train
