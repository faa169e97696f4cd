#include "checkpoints/locate.h"

#include <algorithm>

#include "checkpoints/checkpoint.h"
#include "checkpoints/names.h"
#include "core/error.h"

namespace tessera::checkpoints {

std::string newest_checkpoint(FileSystem& files, const std::string& folder,
                              std::vector<std::string>& refused) {
  std::vector<std::int64_t> steps;
  for (const std::string& name : files.list(folder))
    if (const auto step = step_of_name(name)) steps.push_back(*step);
  std::sort(steps.rbegin(), steps.rend());
  std::string first_fault;
  Category category = Category::data;
  for (const std::int64_t step : steps) {
    const std::string name = checkpoint_name(step);
    std::string path = folder + "/" + name;
    try {
      CheckpointReader reader(path, Verify::digests, files);
      return path;
    } catch (const Error& error) {
      if (error.category() == Category::io) category = Category::io;
      std::string fault = error.what();
      if (fault.starts_with(path + "/")) fault = fault.substr(path.size() + 1);
      refused.push_back(name + ": " + fault);
      if (first_fault.empty()) first_fault = refused.back();
    }
  }
  if (steps.empty()) return "";
  throw Error(category, folder + ": none of its " + std::to_string(steps.size()) +
                            " checkpoints verifies; the newest: " + first_fault);
}

std::string resolve_checkpoint(FileSystem& files, const std::string& path,
                               std::vector<std::string>& refused) {
  const std::string clean = without_slashes(path);
  if (!files.exists(clean))
    throw Error(Category::config, clean +
                                      ": does not exist; expected a run folder, its "
                                      "checkpoints folder or one checkpoint");
  if (files.exists(clean + "/" + kManifestName) || step_of_name(base_name(clean))) return clean;
  const bool is_run = files.exists(clean + "/checkpoints");
  const std::string folder = is_run ? clean + "/checkpoints" : clean;
  std::string newest = newest_checkpoint(files, folder, refused);
  if (!newest.empty()) return newest;
  if (is_run || base_name(clean) == "checkpoints")
    throw Error(Category::data, folder + ": holds no checkpoint yet");
  throw Error(Category::config, clean + ": is no run folder, checkpoints folder or checkpoint");
}

}  // namespace tessera::checkpoints
