// tessera import: safetensors of another tool (or an export) as a run that training goes on from.
#include <algorithm>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "checkpoints/checkpoint.h"
#include "checkpoints/exchange.h"
#include "checkpoints/hugging_face.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "config/load.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "model/parameter_table.h"
#include "train/run_folder.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string folder, run;
  std::vector<std::string> settings;  // perhaps CONFIG.yaml, then key=value
  bool json = false;
};

// The defaults with the model of the files; a warm-up that fits the default number of steps.
Config default_config(const std::string& folder, const std::vector<std::string>& overrides) {
  Config config;
  config.model = checkpoints::imported_config(folder);
  config.optimizer.warmup = config.train.steps / 10;
  return parse_config(resolved_config(config), folder, folder, overrides);
}

// What the files say of the model and `config` says otherwise: Error{config} naming each key. The
// context is not a property of the weights, so it may differ.
void require_agreement(const ModelConfig& files, const ModelConfig& config,
                       const std::string& folder) {
  const OrderedJson theirs = checkpoints::model_to_json(files);
  const OrderedJson ours = checkpoints::model_to_json(config);
  std::string differences;
  for (const auto& [key, value] : theirs.items()) {
    const auto found = ours.find(key);
    if (key == "context" || (found != ours.end() && *found == value)) continue;
    differences += (differences.empty() ? "" : "; ") + ("model." + key) + ": the files have " +
                   value.dump() +
                   (found == ours.end() ? "" : ", the configuration " + found->dump());
  }
  if (!differences.empty())
    throw Error(Category::config,
                folder + " and the configuration describe different models: " + differences);
}

void run(const Options& options) {
  FileSystem& files = FileSystem::posix();
  if (!files.exists(options.folder))
    throw Error(Category::config, options.folder + ": does not exist");
  std::vector<std::string> overrides = options.settings;
  std::string file;
  if (!overrides.empty() && overrides[0].find('=') == std::string::npos) {
    file = overrides[0];
    overrides.erase(overrides.begin());
  }
  if (!options.run.empty()) overrides.push_back("run.name=" + options.run);
  if (file.empty() && !checkpoints::describes_model(options.folder))
    throw Error(Category::config,
                options.folder +
                    ": holds neither tessera.json nor config.json, so the model must be "
                    "described by a CONFIG.yaml");
  const Config config =
      file.empty() ? default_config(options.folder, overrides) : load_config(file, overrides);
  if (checkpoints::describes_model(options.folder))
    require_agreement(checkpoints::imported_config(options.folder), config.model, options.folder);

  const model::ParameterTable table = model::parameter_table(config.model);
  std::vector<checkpoints::TensorInfo> tensors;
  for (const model::Parameter& p : table.parameters()) tensors.push_back({p.name, p.shape});

  train::RunFolder folder(config.run.root, config.run.name);
  folder.open();
  if (!files.list(folder.checkpoints()).empty())
    throw Error(Category::config,
                folder.checkpoints() + ": is not empty; choose another run with --run NAME");
  const std::string path = checkpoints::import_model(files, options.folder, config, tensors,
                                                     folder.path(), train::build_name());
  write_atomically(files, folder.config(), resolved_config(config));
  const bool block = config.model.kind == ModelKind::block;
  if (options.json)
    std::cout << OrderedJson({{"checkpoint", path},
                              {"run", folder.path()},
                              {"config", folder.config()},
                              {"kind", block ? "block" : "vanilla"},
                              {"tensors", tensors.size()},
                              {"parameters", table.total()}})
                     .dump()
              << "\n";
  else
    std::cout << "imported " << options.folder << " (" << (block ? "block" : "vanilla") << ", "
              << with_commas(table.total()) << " parameters) to " << path
              << "\ntrain it on: tessera train " << (file.empty() ? folder.config() : file)
              << (options.run.empty() || file.empty() ? "" : " run.name=" + options.run) << "\n";
}

}  // namespace

void add_import(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "import", "Read safetensors of a vanilla or block model into a run, as its step 0");
  command->add_option("folder", options->folder, "Folder with model.safetensors, or its shards")
      ->required();
  command->add_option("settings", options->settings,
                      "[CONFIG.yaml] key=value ...; the model must be that of the files (default: "
                      "theirs, with default training settings)");
  command->add_option("--run", options->run, "Name of the run (run.name)");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(example("tessera import pythia-70m --run continued data.train=shards"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
