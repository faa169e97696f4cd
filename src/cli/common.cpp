#include "cli/common.h"

#include <spdlog/spdlog.h>

#include "checkpoints/locate.h"
#include "config/load.h"

namespace tessera::cli {

LoadedModel load_model(const std::string& where) {
  std::vector<std::string> refused;
  LoadedModel loaded;
  loaded.path = checkpoints::resolve_checkpoint(FileSystem::posix(), where, refused);
  for (const std::string& why : refused) spdlog::warn("not a usable checkpoint: {}", why);
  const checkpoints::CheckpointReader reader(loaded.path);
  loaded.state = reader.state();
  loaded.config = parse_config(loaded.state.config_yaml, loaded.path + "/config.yaml", loaded.path);
  loaded.tokenizer_json = reader.tokenizer_json();
  loaded.table = model::parameter_table(loaded.config.model);
  loaded.parameters.resize(static_cast<std::size_t>(loaded.table.flat_size()));
  for (const model::Parameter& p : loaded.table.parameters())
    reader.read(checkpoints::CheckpointReader::Kind::param, p.name, 0, p.count,
                loaded.parameters.data() + p.offset);
  return loaded;
}

std::string example(const std::string& text) {
  return "Example:\n  " + text;
}

}  // namespace tessera::cli
