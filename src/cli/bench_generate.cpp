// tessera bench generate: new tokens a second by the published protocol (Block Transformer, section
// 3.2 and appendix G.3): random weights, random prompts of full length, no end-of-text, greedy; a
// warm-up, then the mean of some runs of the whole call, prefill included.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>

#include <CLI/CLI.hpp>

#include "cli/bench.h"
#include "cli/common.h"
#include "cli/kernel_bench/measure.h"
#include "cli/prompts.h"
#include "cli/throughput_chart.h"
#include "config/load.h"
#include "core/device_memory.h"
#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"
#include "core/random.h"
#include "core/text.h"
#include "core/threads.h"
#include "infer/generator.h"
#include "infer/roofline.h"
#include "model/architecture.h"

namespace tessera::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::vector<std::string> arguments;  // configurations, and key=value for all of them
  std::vector<std::string> batches = {"auto"};
  std::int64_t prefill = 2048, decode = 128;
  int runs = 5;
  std::string device = "auto", precision = "auto", svg;
  bool json = false;
};

struct Result {
  std::string name;
  std::int64_t batch = 0;
  double seconds = 0, first_token_seconds = 0;
  std::int64_t memory = 0, memory_a_sample = 0;
  infer::Roofline roofline;
  std::vector<parallel::PartTime> parts;
  double tokens_per_second(std::int64_t decode) const {
    return static_cast<double>(batch * decode) / seconds;
  }
};

// Deviations as at a start of training; uniform numbers, because billions of normal ones take long.
std::vector<float> random_weights(const model::ParameterTable& table) {
  std::vector<float> weights(static_cast<std::size_t>(table.flat_size()));
  for (const model::Parameter& p : table.parameters()) {
    float* const to = weights.data() + p.offset;
    const CounterRandom random(1, hash_name(p.name));
    const double scale = p.deviation * std::sqrt(12.0);
#pragma omp parallel for
    for (std::int64_t i = 0; i < p.count; ++i)
      to[i] = p.initial == model::Initial::ones ? 1.0f
              : p.initial == model::Initial::zeros
                  ? 0.0f
                  : static_cast<float>(scale * (random.uniform(std::uint64_t(i)) - 0.5));
  }
  return weights;
}

std::vector<infer::Prompt> random_prompts(std::int64_t count, std::int64_t length,
                                          std::int64_t vocab) {
  std::vector<infer::Prompt> prompts(static_cast<std::size_t>(count));
  for (std::size_t n = 0; n < prompts.size(); ++n) {
    const CounterRandom random(2, n);
    prompts[n].index = static_cast<std::int64_t>(n);
    for (std::int64_t i = 0; i < length; ++i)
      prompts[n].ids.push_back(static_cast<std::int32_t>(random.bits(std::uint64_t(i)) %
                                                         static_cast<std::uint64_t>(vocab)));
  }
  return prompts;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Result measure(const Options& options, const ModelConfig& model, const model::ParameterTable& table,
               const std::vector<float>& weights, const std::string& batch, Device device,
               Precision precision, const KernelBench& ceilings) {
  infer::Limits limits{1, options.prefill, options.decode};
  const auto bytes = [&](std::int64_t sequences) {
    infer::Limits some = limits;
    some.sequences = sequences;
    return infer::Generator::plan(model, table, some, device, precision).total_bytes();
  };
  Result r;
  const std::int64_t wanted = device == Device::cuda ? std::int64_t{1} << 20 : 8;
  limits.sequences = batch_that_fits(model, table, limits, device, precision,
                                     batch == "auto" ? 0 : std::stoll(batch),
                                     batch == "auto" ? wanted : std::int64_t{1} << 20);
  // Sixteens, so that no product has a ragged edge.
  if (batch == "auto" && limits.sequences > 64) limits.sequences = limits.sequences / 16 * 16;
  r.batch = limits.sequences;
  r.memory_a_sample = bytes(r.batch + 1) - bytes(r.batch);
  const auto generator =
      infer::Generator::make(model, table, weights.data(), limits, device, precision);
  r.memory = generator->memory().total_bytes();
  const auto prompts = random_prompts(r.batch, options.prefill, model.vocab);
  infer::GenerateOptions generate;
  generate.tokens = options.decode;
  infer::GenerateOptions little = generate;
  little.tokens = std::min<std::int64_t>(options.decode, 2 * model.block_length);
  generator->set_may_measure(true);
  generator->generate(prompts, little);
  generator->set_may_measure(false);
  generator->generate(prompts, little);
  for (int run = 0; run < options.runs; ++run) {
    const auto start = Clock::now();
    generator->generate(prompts, generate);
    r.seconds += seconds_since(start) / options.runs;
  }
  r.first_token_seconds = generator->first_token_seconds(prompts, generate);
  r.parts = generator->time_parts(prompts, generate);
  // Bandwidth of reading alone: a copy reads half of what it moves, at the same rate.
  r.roofline =
      infer::roofline(model, r.batch, options.prefill, options.decode, ceilings.gemm_rate(),
                      ceilings.copy_bandwidth(), precision == Precision::bf16 ? 2 : 4);
  return r;
}

void print_json(const Options& options, const Result& r, Device device, Precision precision,
                const KernelBench& ceilings) {
  OrderedJson json = {{"config", r.name},
                      {"device", device == Device::cuda ? device_info().name : "cpu"},
                      {"precision", precision == Precision::bf16 ? "bf16" : "fp32"},
                      {"prefill", options.prefill},
                      {"decode", options.decode},
                      {"batch", r.batch},
                      {"runs", options.runs},
                      {"seconds", r.seconds},
                      {"tokens_per_second", r.tokens_per_second(options.decode)},
                      {"first_token_seconds", r.first_token_seconds},
                      {"memory_bytes", r.memory},
                      {"memory_bytes_a_sample", r.memory_a_sample},
                      {"roofline_tokens_per_second",
                       static_cast<double>(r.batch * options.decode) / r.roofline.seconds()},
                      {"fraction_of_roofline", r.roofline.seconds() / r.seconds},
                      {"gemm_flops_per_second", ceilings.gemm_rate()},
                      {"copy_bytes_per_second", ceilings.copy_bandwidth()},
                      {"parts_ms", OrderedJson::object()}};
  for (const parallel::PartTime& part : r.parts) json["parts_ms"][part.part] = part.milliseconds;
  std::cout << json.dump() << std::endl;
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

void print_table(const Options& options, const std::vector<Result>& results) {
  std::vector<std::vector<std::string>> rows = {{"model", "batch", "new tokens/s", "roofline",
                                                 "fraction", "first token", "memory a sample",
                                                 "memory"}};
  for (const Result& r : results)
    rows.push_back(
        {r.name, std::to_string(r.batch), number("%.0f", r.tokens_per_second(options.decode)),
         number("%.0f", double(r.batch * options.decode) / r.roofline.seconds()),
         number("%.2f", r.roofline.seconds() / r.seconds), number("%.3f s", r.first_token_seconds),
         human_bytes(r.memory_a_sample), human_bytes(r.memory)});
  std::cout << format_table(rows);
  for (const Result& r : results) {
    std::cout << r.name << ", batch " << r.batch << ", prefill and one turn:\n";
    std::vector<std::vector<std::string>> parts;
    for (const parallel::PartTime& p : r.parts)
      parts.push_back({"  " + p.part, number("%.3f ms", p.milliseconds)});
    std::cout << format_table(parts);
  }
}

std::string name_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/') + 1, dot = path.rfind(".yaml");
  return path.substr(slash, dot == std::string::npos ? dot : dot - slash);
}

void run(const Options& options) {
  use_threads(1);
  std::vector<std::string> files, overrides;
  for (const std::string& a : options.arguments)
    (a.find('=') == std::string::npos ? files : overrides).push_back(a);
  if (files.empty()) throw Error(Category::config, "name a configuration (configs/bench/*.yaml)");
  for (const std::string& batch : options.batches)
    if (batch != "auto" &&
        (batch.empty() || batch.size() > 9 ||
         batch.find_first_not_of("0123456789") != std::string::npos || std::stoll(batch) == 0))
      throw Error(Category::config, "--batch " + batch + ": a number from 1 or auto was expected");
  std::vector<Result> results;
  std::unique_ptr<KernelBench> ceilings;
  for (const std::string& file : files) {
    const Config config = load_config(file, overrides);
    const auto [device, precision] = resolve_device(config, options.device, options.precision);
    if (!ceilings) ceilings = std::make_unique<KernelBench>(device, "");
    const model::ParameterTable table = model::parameter_table(config.model);
    const std::vector<float> weights = random_weights(table);
    for (const std::string& batch : options.batches) {
      results.push_back(
          measure(options, config.model, table, weights, batch, device, precision, *ceilings));
      results.back().name = name_of(file);
      if (options.json) print_json(options, results.back(), device, precision, *ceilings);
    }
  }
  if (!options.json) print_table(options, results);
  if (options.svg.empty()) return;
  ThroughputChart chart;
  chart.title = "new tokens a second, prompts of " + std::to_string(options.prefill) +
                " continued by " + std::to_string(options.decode);
  for (const Result& r : results)
    chart.add(r.name, static_cast<double>(r.batch), r.tokens_per_second(options.decode));
  write_atomically(FileSystem::posix(), options.svg, chart.svg());
}

}  // namespace

void add_bench_generate(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "generate", "New tokens a second: random weights and prompts, greedy, prefill included");
  command
      ->add_option("arguments", options->arguments,
                   "YAML configurations, and key=value for all of them")
      ->required();
  command->add_option("--prefill", options->prefill, "Tokens of a prompt")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--decode", options->decode, "New tokens")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  command
      ->add_option("--batch", options->batches,
                   "Prompts at once: numbers or auto (as many as fit; 8 on the CPU)")
      ->delimiter(',');
  command->add_option("--runs", options->runs, "Runs to take the mean of")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--device", options->device, "auto (default), cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command
      ->add_option("--precision", options->precision, "auto (default: bf16 on CUDA), bf16 or fp32")
      ->check(CLI::IsMember({"auto", "bf16", "fp32"}));
  command->add_option("--svg", options->svg, "Draw throughput against batch into this file");
  command->add_flag("--json", options->json, "Print a JSON line a measurement");
  command->footer(
      example("tessera bench generate configs/bench/block_170m.yaml --prefill 2048 --decode 128"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
