// What several commands share.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "config/config.h"
#include "model/parameter_table.h"

namespace CLI {
class App;
}

namespace tessera::cli {

// A checkpoint ready to compute with: its configuration and flat parameters.
struct LoadedModel {
  std::string path;  // the step folder
  Config config;
  checkpoints::TrainingState state;
  std::string tokenizer_json;
  model::ParameterTable table;
  std::vector<float> parameters;  // table.flat_size()
};

// `where`: run folder, checkpoints folder or step folder; the newest checkpoint that verifies.
LoadedModel load_model(const std::string& where);

// The help footer "Example: ...".
std::string example(const std::string& text);

}  // namespace tessera::cli
