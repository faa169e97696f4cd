// From what a person types to a step folder.
#pragma once

#include <string>
#include <vector>

#include "core/file_system.h"

namespace tessera::checkpoints {

// The step folder that PATH means: PATH itself when it is one, else the newest checkpoint that
// verifies in PATH/checkpoints (a run folder) or in PATH (a checkpoints folder). Newer ones that do
// not verify are added to `refused`, one sentence each. A step folder is not verified here (its
// CheckpointReader does that). Error{config} when PATH is missing or none of these, Error{data}
// when it holds no checkpoint that verifies.
std::string resolve_checkpoint(FileSystem& files, const std::string& path,
                               std::vector<std::string>& refused);

}  // namespace tessera::checkpoints
