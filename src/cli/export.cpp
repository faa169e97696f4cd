// tessera export: a checkpoint as the files other tools read.
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/exchange.h"
#include "checkpoints/locate.h"
#include "checkpoints/names.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "config/load.h"
#include "core/json.h"
#include "core/text.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string checkpoint, out, type = "f32";
  std::int64_t shard_bytes = checkpoints::kDefaultShardBytes;
  bool force = false, json = false;
};

checkpoints::TensorType tensor_type(const std::string& name) {
  if (name == "bf16") return checkpoints::TensorType::bf16;
  return name == "f16" ? checkpoints::TensorType::f16 : checkpoints::TensorType::f32;
}

void run(const Options& options) {
  FileSystem& files = FileSystem::posix();
  std::vector<std::string> refused;
  const std::string path = checkpoints::resolve_checkpoint(files, options.checkpoint, refused);
  for (const std::string& why : refused) spdlog::warn("not a usable checkpoint: {}", why);
  const checkpoints::CheckpointReader reader(path);
  const Config config = parse_config(reader.state().config_yaml, path + "/config.yaml", path);
  const checkpoints::Exported weights =
      checkpoints::export_model(files, reader, config, checkpoints::without_slashes(options.out),
                                {tensor_type(options.type), options.shard_bytes, options.force});
  const bool block = config.model.kind == ModelKind::block;
  if (options.json)
    std::cout << OrderedJson({{"checkpoint", path},
                              {"step", reader.state().step},
                              {"out", options.out},
                              {"kind", block ? "block" : "vanilla"},
                              {"dtype", options.type},
                              {"tensors", reader.tensors().size()},
                              {"files", weights.files},
                              {"bytes", weights.bytes}})
                     .dump()
              << "\n";
  else
    std::cout << "exported " << path << " (" << (block ? "block" : "vanilla") << ", step "
              << reader.state().step << ") to " << options.out << ": " << reader.tensors().size()
              << " tensors as " << options.type << ", " << human_bytes(weights.bytes)
              << (weights.files == 1 ? std::string(" in one file")
                                     : " in " + with_commas(weights.files) + " shards")
              << "\n";
}

}  // namespace

void add_export(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "export", "Write a checkpoint as safetensors with published names, config and tokenizer");
  command->add_option("checkpoint", options->checkpoint, "Run folder or checkpoint")->required();
  command->add_option("--out", options->out, "Folder to write")->required();
  command->add_option("--dtype", options->type, "f32, bf16 or f16 (default f32)")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  command
      ->add_option("--max-shard-size", options->shard_bytes,
                   "Most bytes of tensors a file, such as 5GB or 500MiB; more make shards and an "
                   "index (default 50GB, as transformers has it)")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 60));
  command->add_flag("--force", options->force,
                    "Write into a folder that is not empty; an export in it is replaced");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(example("tessera export runs/quickstart-vanilla --out exported --dtype bf16"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
