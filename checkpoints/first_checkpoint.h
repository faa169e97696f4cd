// The checkpoint that a run begins with when its parameters come from elsewhere: step 0, moments of
// zero. Written in parts of a few hundred megabytes, never held in memory whole.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "config/config.h"

namespace tessera::checkpoints {

// Gives elements [begin, end) of a tensor of the table.
using GiveParameters =
    std::function<void(const TensorInfo& tensor, std::int64_t begin, std::int64_t end, float* out)>;

// Writes step 0 below `run_folder`/checkpoints and returns its path. `build` is TrainingState's.
std::string write_first_checkpoint(FileSystem& files, const Config& config,
                                   const std::vector<TensorInfo>& tensors,
                                   const GiveParameters& give, const std::string& tokenizer_json,
                                   const std::string& run_folder, const std::string& build);

}  // namespace tessera::checkpoints
