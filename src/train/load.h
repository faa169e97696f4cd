// Between checkpoints and an engine: names of tensors, and a state brought back.
#pragma once

#include <vector>

#include "checkpoints/checkpoint.h"
#include "parallel/engine.h"

namespace tessera::train {

// Loads parameters and this rank's moments.
void load_checkpoint(parallel::Engine& engine, const checkpoints::CheckpointReader& reader);

// The model's tensors as checkpoints name them.
std::vector<checkpoints::TensorInfo> tensor_infos(const model::ParameterTable& table);

}  // namespace tessera::train
