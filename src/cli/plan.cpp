// tessera plan: what a run would need, without running it.
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "comm/communicator.h"
#include "comm/topology.h"
#include "config/load.h"
#include "core/device_memory.h"
#include "core/json.h"
#include "core/text.h"
#include "model/flops.h"
#include "parallel/engine.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  std::int64_t ranks = 1;
  bool tensors = false, json = false;
};

OrderedJson describe(const Config& config, const comm::Topology& topology, const MemoryPlan& plan,
                     const model::ParameterTable& table) {
  OrderedJson memory = OrderedJson::object();
  for (const MemorySegment& s : plan.segments()) memory[s.name] = s.bytes;
  OrderedJson json = {{"parameters", table.total()},
                      {"non_embedding_parameters", model::non_embedding_parameters(table)},
                      {"training_flops_per_token", model::training_flops_per_token(config.model)},
                      {"ranks", topology.world},
                      {"tokens_per_step", config.train.global_batch * config.model.context},
                      {"memory_bytes", memory},
                      {"memory_bytes_total", plan.total_bytes()}};
  return json;
}

void run(const Options& options) {
  Config config = load_config(options.config, options.overrides);
  // A plan needs no device: `auto` plans for the one this machine has.
  const Device device = config.device == DeviceChoice::cuda ? Device::cuda
                        : config.device == DeviceChoice::cpu || cuda_device_count() == 0
                            ? Device::cpu
                            : Device::cuda;
  if (config.precision == Precision::automatic)
    config.precision = device == Device::cuda ? Precision::bf16 : Precision::fp32;
  const comm::Topology topology = comm::make_topology(config, 0, options.ranks);
  const auto single = comm::make_single();
  const auto engine_owner = parallel::make_engine(config, device, topology, *single);
  parallel::Engine& engine = *engine_owner;
  MemoryPlan plan;
  engine.plan(plan);
  if (options.json) {
    OrderedJson json = describe(config, topology, plan, engine.table());
    if (options.tensors)
      for (const auto& p : engine.table().parameters())
        json["tensors"].push_back({{"name", p.name}, {"shape", p.shape}});
    std::cout << json.dump(2) << "\n";
    return;
  }
  std::cout << train::model_lines(config.model, engine.table()) << "\n";
  std::cout << topology.world << " ranks: " << topology.replicas << " replicas x "
            << topology.stages << " stages; "
            << human_count(static_cast<double>(config.train.global_batch * config.model.context))
            << " tokens a step, "
            << config.train.global_batch / (config.train.micro_batch * topology.replicas)
            << " micro-batches a rank\n";
  std::cout << train::memory_table(plan);
  if (!options.tensors) return;
  std::vector<std::vector<std::string>> rows = {{"tensor", "shape", "elements"}};
  for (const auto& p : engine.table().parameters()) {
    std::string shape;
    for (const auto extent : p.shape)
      shape += (shape.empty() ? "" : " x ") + std::to_string(extent);
    rows.push_back({p.name, shape, with_commas(p.count)});
  }
  std::cout << format_table(rows);
}

}  // namespace

void add_plan(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("plan", "A dry run: parameters, FLOPs a token, memory a rank by segment");
  command->add_option("config", options->config, "YAML configuration")->required();
  command->add_option("overrides", options->overrides, "key=value");
  command->add_option("--ranks", options->ranks, "Ranks to plan for")->check(CLI::PositiveNumber);
  command->add_flag("--tensors", options->tensors, "List every parameter tensor");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(example("tessera plan configs/paper/block_170m.yaml --ranks 8"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
