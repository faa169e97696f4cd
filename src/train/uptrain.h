// A block model that begins as a vanilla one (model/uptrain.h), as step 0 of a run.
#pragma once

#include <string>

#include "checkpoints/model_source.h"
#include "config/config.h"
#include "core/file_system.h"
#include "model/uptrain.h"

namespace tessera::train {

// Error{config} naming everything in which the source and `config`'s model do not fit together,
// Error{data} when the source's tensors are not those that it describes.
void require_uptrainable(const checkpoints::ModelSource& source, const Config& config,
                         model::UptrainMethod method);

// Writes the checkpoint below `run_folder` and returns its path. The source has passed the above.
std::string write_uptrained(FileSystem& files, const checkpoints::ModelSource& source,
                            const Config& config, model::UptrainMethod method,
                            const std::string& run_folder);

}  // namespace tessera::train
