// tessera inspect: recognises what a path is and says what it holds.
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "checkpoints/exchange.h"
#include "checkpoints/hugging_face.h"
#include "checkpoints/names.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/inspections.h"
#include "core/error.h"
#include "core/file_system.h"
#include "data/shard_folder.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string path, cases;
  bool verify = false, json = false;
};

bool holds_steps(const std::string& folder) {
  for (const std::string& name : FileSystem::posix().list(folder))
    if (checkpoints::step_of_name(name)) return true;
  return false;
}

bool holds_safetensors(const std::string& folder) {
  if (FileSystem::posix().exists(folder + "/" + checkpoints::kShardIndexFile)) return true;
  for (const std::string& name : FileSystem::posix().list(folder))
    if (name.ends_with(".safetensors")) return true;
  return false;
}

Inspection inspect_folder(const std::string& path, const Options& options) {
  FileSystem& files = FileSystem::posix();
  if (data::is_shard_folder(path)) return inspect_shards(path, options.verify);
  if (files.exists(path + "/manifest.json") ||
      checkpoints::step_of_name(checkpoints::base_name(path)))
    return inspect_checkpoint(path, options.verify);
  if (files.exists(path + "/checkpoints"))
    return inspect_checkpoints(path + "/checkpoints", options.verify);
  if (holds_steps(path)) return inspect_checkpoints(path, options.verify);
  if (holds_safetensors(path)) return inspect_exported(path);
  if (files.exists(path + "/tokenizer.json")) return inspect_tokenizer(path, options.cases);
  throw Error(Category::config,
              path +
                  ": is none of the folders that inspect knows: token shards, a run, its "
                  "checkpoints, one checkpoint, an export, or one with a tokenizer.json");
}

Inspection inspect_file(const std::string& path, const Options& options) {
  if (path.ends_with(".safetensors")) return inspect_safetensors(path);
  for (const char* name :
       {checkpoints::kShardIndexFile, checkpoints::kHuggingFaceFile, checkpoints::kExportFile})
    if (checkpoints::base_name(path) == name) return inspect_exported(parent_directory(path));
  if (path.ends_with(".h5")) return inspect_shard(path, options.verify);
  if (path.ends_with(".json")) return inspect_tokenizer(path, options.cases);
  throw Error(Category::config, path +
                                    ": is none of the files that inspect knows: *.h5 (token "
                                    "shard), *.safetensors, tokenizer.json");
}

bool is_folder(const std::string& path) {
  try {
    FileSystem::posix().list(path);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void run(const Options& options) {
  const std::string path = checkpoints::without_slashes(options.path);
  Inspection found;
  if (FileSystem::posix().exists(path))
    found = is_folder(path) ? inspect_folder(path, options) : inspect_file(path, options);
  else if (path == "bytes")
    found = inspect_tokenizer(path, options.cases);
  else
    throw Error(Category::config, path + ": does not exist");
  if (!options.cases.empty() && found.json.at("kind") != "tokenizer")
    throw Error(Category::config, "--cases is for tokenizers; " + path + " holds a " +
                                      found.json.at("kind").get<std::string>());
  if (options.json) {
    found.json["problems"] = found.problems;
    std::cout << found.json.dump(1) << "\n";
  } else {
    std::cout << found.text;
  }
  std::cout.flush();
  if (found.problems.empty()) return;
  const std::size_t others = found.problems.size() - 1;
  throw Error(Category::data,
              found.problems[0] +
                  (others == 0 ? std::string() : " (and " + std::to_string(others) + " more)"));
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect", "What a shard, checkpoint, run, safetensors file or tokenizer holds");
  command
      ->add_option("path", options->path,
                   "Shard folder or .h5, run or checkpoint, export or .safetensors, tokenizer.json")
      ->required();
  command->add_option("--cases", options->cases,
                      "Tokenizers: check lines of {\"text\", \"ids\"}; exit 65 on any mismatch");
  command->add_flag("--verify", options->verify, "Read everything and compare all digests");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(example("tessera inspect runs/quickstart-block --verify"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
