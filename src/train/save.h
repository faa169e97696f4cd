// One checkpoint, written by all ranks together.
#pragma once

#include <string>

#include "checkpoints/checkpoint.h"
#include "comm/communicator.h"
#include "config/config.h"
#include "parallel/engine.h"

namespace tessera::train {

// Saves `state` with the engine's parameters and moments below `folder`, then applies retention.
// Every rank returns the same: the checkpoint's path. A failure of any rank is Error{io} on all,
// the temporary folder removed, earlier checkpoints untouched.
std::string save_checkpoint(parallel::Engine& engine, comm::Communicator& ranks,
                            const std::string& folder, const checkpoints::TrainingState& state,
                            const CheckpointConfig& retention, const std::string& tokenizer_json);

// Loads parameters and this rank's moments.
void load_checkpoint(parallel::Engine& engine, const checkpoints::CheckpointReader& reader);

// The model's tensors as checkpoints name them.
std::vector<checkpoints::TensorInfo> tensor_infos(const model::ParameterTable& table);

}  // namespace tessera::train
