// tessera import: safetensors of another tool (or an export) as a run that training goes on from;
// or a block model that begins as a vanilla one (uptraining).
#include <functional>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include "checkpoints/exchange.h"
#include "checkpoints/hugging_face.h"
#include "checkpoints/model_source.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "config/load.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "model/parameter_table.h"
#include "train/load.h"
#include "train/run_folder.h"
#include "train/setup.h"
#include "train/uptrain.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string source, run, uptrain;
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

// CONFIG.yaml where the settings begin with one ("" otherwise), and the overrides.
struct Settings {
  std::string file;
  std::vector<std::string> overrides;
  // The file where it says all.
  std::string alone() const { return overrides.empty() ? file : ""; }
};
Settings settings_of(const Options& options) {
  Settings result{"", options.settings};
  std::vector<std::string>& overrides = result.overrides;
  if (!overrides.empty() && overrides[0].find('=') == std::string::npos) {
    result.file = overrides[0];
    overrides.erase(overrides.begin());
  }
  if (!options.run.empty()) overrides.push_back("run.name=" + options.run);
  return result;
}

// What the user sees of a run that has been made.
struct Made {
  std::string source, method;  // method: of uptraining, or ""
  std::string file;            // the configuration that it was made by, or ""
};

// A run of `config`, whose step 0 `write` leaves below the run folder that it is given and names.
void make_run(const Config& config, const Made& made, bool json,
              const std::function<std::string(const std::string&)>& write) {
  FileSystem& files = FileSystem::posix();
  train::RunFolder folder(config.run.root, config.run.name);
  folder.open();
  if (!files.list(folder.checkpoints()).empty())
    throw Error(Category::config,
                folder.checkpoints() + ": is not empty; choose another run with --run NAME");
  const std::string checkpoint = write(folder.path());
  write_atomically(files, folder.config(), resolved_config(config));
  const model::ParameterTable table = model::parameter_table(config.model);
  const std::string kind = config.model.kind == ModelKind::block ? "block" : "vanilla";
  if (json) {
    OrderedJson said = {{"checkpoint", checkpoint},
                        {"run", folder.path()},
                        {"config", folder.config()},
                        {"kind", kind},
                        {"tensors", table.parameters().size()},
                        {"parameters", table.total()}};
    if (!made.method.empty()) said["uptrain"] = made.method;
    std::cout << said.dump() << "\n";
    return;
  }
  std::cout << (made.method.empty() ? "imported " : "uptraining by " + made.method + ": ")
            << made.source << " (" << kind << ", " << with_commas(table.total())
            << " parameters) to " << checkpoint << "\ntrain it on: tessera train "
            << (made.file.empty() ? folder.config() : made.file) << "\n";
}

void run_import(const Options& options) {
  const Settings settings = settings_of(options);
  const bool described = checkpoints::describes_model(options.source);
  if (settings.file.empty() && !described)
    throw Error(Category::config,
                options.source +
                    ": holds neither tessera.json nor config.json, so the model must be "
                    "described by a CONFIG.yaml");
  const Config config = settings.file.empty() ? default_config(options.source, settings.overrides)
                                              : load_config(settings.file, settings.overrides);
  if (described)
    require_agreement(checkpoints::imported_config(options.source), config.model, options.source);
  const auto tensors = train::tensor_infos(model::parameter_table(config.model));
  make_run(config, {options.source, "", settings.alone()}, options.json,
           [&](const std::string& run) {
             return checkpoints::import_model(FileSystem::posix(), options.source, config, tensors,
                                              run, train::build_name());
           });
}

model::UptrainMethod method_of(const std::string& name) {
  for (const auto method : {model::UptrainMethod::skip, model::UptrainMethod::duplicate})
    if (name == model::name_of(method)) return method;
  return model::UptrainMethod::partition;
}

void run_uptrain(const Options& options) {
  const Settings settings = settings_of(options);
  if (settings.file.empty())
    throw Error(Category::config,
                "--uptrain needs a CONFIG.yaml behind the source, which describes the block model "
                "to make");
  const Config config = load_config(settings.file, settings.overrides);
  const model::UptrainMethod method = method_of(options.uptrain);
  std::vector<std::string> refused;
  const checkpoints::ModelSource source(options.source, refused);
  for (const std::string& why : refused) spdlog::warn("not a usable checkpoint: {}", why);
  train::require_uptrainable(source, config, method);
  make_run(config, {source.path(), options.uptrain, settings.alone()}, options.json,
           [&](const std::string& run) {
             return train::write_uptrained(FileSystem::posix(), source, config, method, run);
           });
}

void run(const Options& options) {
  if (!FileSystem::posix().exists(options.source))
    throw Error(Category::config, options.source + ": does not exist");
  options.uptrain.empty() ? run_import(options) : run_uptrain(options);
}

}  // namespace

void add_import(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "import",
      "Read safetensors of a vanilla or block model into a run, as its step 0; or begin a block "
      "model from a vanilla one");
  command
      ->add_option("source", options->source,
                   "Folder with model.safetensors, or its shards; --uptrain also takes a run or "
                   "checkpoint")
      ->required();
  command->add_option("settings", options->settings,
                      "[CONFIG.yaml] key=value ...; the model must be that of the files (default: "
                      "theirs, with default training settings)");
  command->add_option("--run", options->run, "Name of the run (run.name)");
  command
      ->add_option("--uptrain", options->uptrain,
                   "Make CONFIG.yaml's block model of the source's vanilla one; its layers go to "
                   "the two decoders by: partition (divided), skip (every second to both), "
                   "duplicate (all to both)")
      ->check(CLI::IsMember({"partition", "skip", "duplicate"}));
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(example("tessera import pythia-70m --run continued data.train=shards"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
