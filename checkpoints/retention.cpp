// Which checkpoints stay, and what a save that was cut off leaves behind.
#include <algorithm>

#include "checkpoints/checkpoint.h"
#include "checkpoints/names.h"
#include "checkpoints/pin.h"
#include "core/error.h"

namespace tessera::checkpoints {
namespace {

// The step folder's name when `name` is one plus `suffix`, else "".
std::string stem_with_suffix(const std::string& name, const std::string& suffix) {
  if (!name.ends_with(suffix)) return "";
  std::string stem = name.substr(0, name.size() - suffix.size());
  return step_of_name(stem) ? stem : "";
}

bool is_sound(const std::string& path) {
  try {
    CheckpointReader reader(path, Verify::sizes);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void recover_checkpoints(FileSystem& files, const std::string& folder) {
  bool renamed = false;
  for (const std::string& name : files.list(folder)) {
    const std::string stem = stem_with_suffix(name, kAsideSuffix);
    if (stem.empty() || files.exists(folder + "/" + stem)) continue;
    files.rename(folder + "/" + name, folder + "/" + stem);
    renamed = true;
  }
  if (renamed) files.sync_directory(folder);
  for (const std::string& name : files.list(folder))
    if (!stem_with_suffix(name, kAsideSuffix).empty() ||
        !stem_with_suffix(name, kTemporarySuffix).empty())
      files.remove_all(folder + "/" + name);
}

std::vector<std::string> apply_retention(FileSystem& files, const std::string& folder,
                                         std::int64_t keep, std::int64_t keep_every) {
  TESSERA_CHECK(keep >= 1 && keep_every >= 0);
  recover_checkpoints(files, folder);
  std::vector<std::int64_t> steps;
  for (const std::string& name : files.list(folder))
    if (const auto step = step_of_name(name)) steps.push_back(*step);
  std::sort(steps.rbegin(), steps.rend());
  std::vector<std::string> read_now;
  std::int64_t kept = 0;
  for (const std::int64_t step : steps) {
    const std::string path = folder + "/" + checkpoint_name(step);
    if (kept < keep) {
      if (is_sound(path)) ++kept;
      continue;
    }
    if (keep_every > 0 && step % keep_every == 0) continue;
    const auto pin = Pin::for_removal(path);
    if (!pin) {
      read_now.push_back(checkpoint_name(step));
      continue;
    }
    // Renamed first: a folder that is half removed must not look like a checkpoint.
    files.rename(path, path + kTemporarySuffix);
    files.sync_directory(folder);
    files.remove_all(path + kTemporarySuffix);
  }
  return read_now;
}

}  // namespace tessera::checkpoints
