// tessera plan: what a run would need and how fast it would be, without running it.
#include <algorithm>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <spdlog/fmt/fmt.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/plan_report.h"
#include "config/load.h"
#include "core/device_memory.h"
#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"
#include "core/text.h"
#include "model/flops.h"
#include "parallel/layout_search.h"
#include "parallel/measured_costs.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

constexpr std::int64_t kMostCostBytes = 16 << 20;

struct Options {
  std::string config, device, machine = "auto", costs, svg;
  std::vector<std::string> overrides;
  std::int64_t ranks = 1, gpus_per_node = 8;
  std::int64_t search = 0;  // layouts to list; 0: the configuration's own alone
  bool tensors = false, json = false;
};

// A plan needs no device: `auto` plans for the one this machine has.
Device choose_device(const Options& options, const Config& config) {
  if (options.device == "cpu" || options.device == "cuda")
    return options.device == "cpu" ? Device::cpu : Device::cuda;
  if (config.device == DeviceChoice::cpu) return Device::cpu;
  return config.device == DeviceChoice::cuda || cuda_device_count() > 0 ? Device::cuda
                                                                        : Device::cpu;
}

// `auto`: the GPU that this machine has, an H100 where there is none.
parallel::Machine choose_machine(const Options& options, Device device) {
  if (device == Device::cpu) {
    if (options.machine != "auto")
      throw Error(Category::config, "--machine " + options.machine +
                                        " is a GPU, but the plan is for the CPU; give --device "
                                        "cuda");
    return parallel::cpu_machine(options.gpus_per_node);
  }
  if (options.machine == "h100") return parallel::h100_machine(options.gpus_per_node);
  if (options.machine == "h200") return parallel::h200_machine(options.gpus_per_node);
  return cuda_device_count() > 0 ? parallel::machine_of(device_info().name, options.gpus_per_node)
                                 : parallel::default_machine(device, options.gpus_per_node);
}

std::string tensor_table(const model::ParameterTable& table) {
  std::vector<std::vector<std::string>> rows = {{"tensor", "shape", "elements"}};
  for (const auto& p : table.parameters()) {
    std::string shape;
    for (const auto extent : p.shape)
      shape += (shape.empty() ? "" : " x ") + std::to_string(extent);
    rows.push_back({p.name, shape, with_commas(p.count)});
  }
  return format_table(rows);
}

OrderedJson model_json(const Config& config, const model::ParameterTable& table,
                       const Options& options) {
  OrderedJson json = {{"parameters", table.total()},
                      {"non_embedding_parameters", model::non_embedding_parameters(table)},
                      {"training_flops_per_token", model::training_flops_per_token(config.model)},
                      {"ranks", options.ranks},
                      {"tokens_per_step", config.train.global_batch * config.model.context}};
  if (options.tensors)
    for (const auto& p : table.parameters())
      json["tensors"].push_back({{"name", p.name}, {"shape", p.shape}});
  return json;
}

void print_prediction(const parallel::Prediction& p, const parallel::Machine& machine,
                      const Options& options, bool cuda) {
  std::cout << layout_line(p) << "\n"
            << human_count(
                   static_cast<double>(p.config.train.global_batch * p.config.model.context))
            << " tokens a step\n\n"
            << stage_table(p) << "\n"
            << memory_by_stage(p) << "\n";
  if (!p.fits)
    std::cout << "  TOO LARGE: the fullest rank needs " << human_bytes(p.memory_bytes) << ", "
              << human_bytes(machine.rates.memory_bytes)
              << " can be planned; --search lists layouts that fit\n\n";
  if (p.shape.stages > 1)
    std::cout << "timeline of a replica\n" << parallel::draw_text(p.timeline) << "\n";
  if (const std::string links = link_table(p); !links.empty()) std::cout << links << "\n";
  std::cout << step_table(p, cuda) << assumptions(machine, options.costs);
}

void plan_layout(const parallel::Predictor& predictor, const Config& config,
                 const model::ParameterTable& table, const Options& options, bool cuda) {
  const parallel::Prediction p = predictor.predict(config, options.ranks);
  if (!options.svg.empty())
    write_atomically(FileSystem::posix(), options.svg, parallel::draw_svg(p.timeline));
  if (!options.json) return print_prediction(p, predictor.machine(), options, cuda);
  OrderedJson json = model_json(config, table, options);
  const auto fullest = std::max_element(
      p.stages.begin(), p.stages.end(),
      [](const auto& a, const auto& b) { return a.memory.total_bytes() < b.memory.total_bytes(); });
  for (const MemorySegment& s : fullest->memory.segments()) json["memory_bytes"][s.name] = s.bytes;
  json["memory_bytes_total"] = p.memory_bytes;
  json["assumptions"] = to_json(predictor.machine(), options.costs);
  json["prediction"] = to_json(p, cuda);
  std::cout << json.dump(2) << "\n";
}

void plan_search(const parallel::Predictor& predictor, const Config& config,
                 const model::ParameterTable& table, const Options& options, bool cuda) {
  const parallel::SearchResult result = parallel::search_layouts(
      predictor, config, options.ranks, static_cast<std::size_t>(options.search));
  if (!options.svg.empty())
    write_atomically(FileSystem::posix(), options.svg,
                     parallel::draw_svg(result.best.front().timeline));
  if (options.json) {
    OrderedJson json = model_json(config, table, options);
    json["assumptions"] = to_json(predictor.machine(), options.costs);
    json["layouts"] = result.layouts;
    json["too_large"] = result.too_large;
    json["best"] = OrderedJson::array();
    for (const parallel::Prediction& p : result.best) json["best"].push_back(to_json(p, cuda));
    std::cout << json.dump(2) << "\n";
    return;
  }
  const parallel::Prediction& best = result.best.front();
  std::cout << search_table(result, cuda) << "\nthe first: " << layout_overrides(best) << "\n"
            << step_table(best, cuda) << assumptions(predictor.machine(), options.costs);
}

void run(const Options& options) {
  Config config = load_config(options.config, options.overrides);
  const Device device = choose_device(options, config);
  const bool cuda = device == Device::cuda;
  if (!cuda && config.precision == Precision::bf16)
    throw Error(
        Category::config,
        "precision: bf16 is for CUDA alone, but the plan is for the CPU; give --device cuda");
  if (config.precision == Precision::automatic)
    config.precision = cuda ? Precision::bf16 : Precision::fp32;
  const parallel::Machine machine = choose_machine(options, device);
  std::optional<parallel::CostRatios> ratios;
  if (!options.costs.empty()) {
    const std::string text = FileSystem::posix().read(options.costs, kMostCostBytes);
    ratios = parallel::cost_ratios(parallel::piece_times_from_json(text, options.costs), config,
                                   device, machine.rates, options.costs);
  }
  const parallel::Predictor predictor(config, device, machine, std::move(ratios));
  const model::ParameterTable table = model::parameter_table(config.model);
  if (!options.json) std::cout << train::model_lines(config.model, table) << "\n";
  if (options.search > 0)
    plan_search(predictor, config, table, options, cuda);
  else
    plan_layout(predictor, config, table, options, cuda);
  if (options.tensors && !options.json) std::cout << tensor_table(table);
}

}  // namespace

void add_plan(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "plan", "A dry run: parameters, memory a rank, stages, timeline, traffic, predicted speed");
  command->add_option("config", options->config, "YAML configuration")->required();
  command->add_option("overrides", options->overrides, "key=value");
  command->add_option("--ranks", options->ranks, "Ranks to plan for")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  command->add_option("--gpus-per-node", options->gpus_per_node, "Ranks on each node (default 8)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  command->add_flag("--search{10}", options->search,
                    "List the best layouts for that many ranks (--search=N: how many, default 10)");
  command->add_option("--svg", options->svg, "Draw the timeline into this file");
  command->add_option("--costs", options->costs,
                      "Piece times measured by `tessera bench train --pieces FILE`");
  command->add_option("--device", options->device, "Plan for cpu or cuda, whatever is here")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command
      ->add_option("--machine", options->machine,
                   "GPU to plan for: h100, h200, or auto (default: this machine's, else h100)")
      ->check(CLI::IsMember({"auto", "h100", "h200"}));
  command->add_flag("--tensors", options->tensors, "List every parameter tensor");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      example("tessera plan configs/paper/block_1400m.yaml --ranks 64 --device cuda --search"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
