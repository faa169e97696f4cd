#include "checkpoints/first_checkpoint.h"

#include <algorithm>

#include "checkpoints/layout.h"
#include "config/load.h"
#include "core/integers.h"

namespace tessera::checkpoints {
namespace {

constexpr std::int64_t kPartElements = std::int64_t{128} << 20;

}  // namespace

std::string write_first_checkpoint(FileSystem& files, const Config& config,
                                   const std::vector<TensorInfo>& tensors,
                                   const GiveParameters& give, const std::string& tokenizer_json,
                                   const std::string& run_folder, const std::string& build) {
  std::int64_t total = 0;
  for (const TensorInfo& tensor : tensors)
    total = checked_add(total, element_count(tensor, run_folder), run_folder);
  const std::string checkpoints = run_folder + "/checkpoints";
  const std::string temporary =
      prepare_checkpoint(files, checkpoints, 0, checked_mul(total, 12, run_folder) + (1 << 20));
  std::vector<PartRecord> parts;
  std::vector<float> values(static_cast<std::size_t>(std::min(total, kPartElements)));
  const std::vector<float> zeros(values.size(), 0.0f);
  std::vector<OwnedSlice> slices;
  std::int64_t used = 0;
  const auto write = [&] {
    parts.push_back(
        write_part(files, temporary, static_cast<std::int64_t>(parts.size()), tensors, slices));
    slices.clear();
    used = 0;
  };
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::int64_t count = element_count(tensors[t], run_folder);
    for (std::int64_t at = 0; at < count;) {
      if (used == kPartElements) write();
      const std::int64_t some = std::min(count - at, kPartElements - used);
      float* to = values.data() + used;
      give(tensors[t], at, at + some, to);
      slices.push_back(
          {static_cast<std::int64_t>(t), at, at + some, to, zeros.data(), zeros.data()});
      at += some;
      used += some;
    }
  }
  if (used > 0) write();

  TrainingState state;
  state.config_yaml = resolved_config(config);
  state.config_hash = config_hash(config);
  state.build = build;
  return commit_checkpoint(files, checkpoints, temporary, state, tensors, parts, tokenizer_json);
}

}  // namespace tessera::checkpoints
