// tessera bench data: how fast token shards reach training, through the loader that training uses:
// the run's order (shuffled, blended, padded), one loader a rank, and a consumer that looks at
// every id and target and does nothing else.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <spdlog/fmt/fmt.h>

#include "cli/bench.h"
#include "cli/common.h"
#include "comm/communicator.h"
#include "comm/topology.h"
#include "config/load.h"
#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"
#include "core/text.h"
#include "data/token_source.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

using Clock = std::chrono::steady_clock;

// More steps than anybody waits for: the time ends the measurement.
constexpr std::int64_t kSteps = std::int64_t{1} << 40;

struct Options {
  std::vector<std::string> inputs;
  std::vector<double> weights;
  double seconds = 5;
  bool cold = false, json = false;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// CONFIG key=value..., or FOLDER... key=value... with the defaults of every other key.
Config configuration(const Options& options) {
  std::vector<std::string> paths, overrides;
  for (const std::string& input : options.inputs) {
    const bool is_override =
        input.find('=') != std::string::npos && !std::filesystem::exists(input);
    (is_override ? overrides : paths).push_back(input);
  }
  if (paths.empty() || !std::filesystem::is_directory(paths[0])) {
    if (paths.size() != 1)
      throw Error(Category::config,
                  paths.empty() ? "bench data: name a configuration or shard folders"
                                : "bench data: " + paths[0] +
                                      " is not a shard folder; name one configuration, or shard "
                                      "folders alone");
    if (!options.weights.empty())
      throw Error(Category::config,
                  "bench data: --weights is for shard folders; a configuration has its weights in "
                  "data.train");
    Config config = load_config(paths[0], overrides);
    if (config.data.train.empty())
      throw Error(Category::config,
                  "bench data: " + paths[0] + " names no shard folder; give data.train=FOLDER");
    return config;
  }
  if (!options.weights.empty() && options.weights.size() != paths.size())
    throw Error(Category::config, fmt::format("bench data: {} weights for {} shard folders",
                                              options.weights.size(), paths.size()));
  Config config = parse_config("{}", "bench data", ".", overrides);
  config.data.train.clear();
  for (std::size_t i = 0; i < paths.size(); ++i)
    config.data.train.push_back({paths[i], options.weights.empty() ? 1 : options.weights[i]});
  return config;
}

// Brings the shards' bytes into the page cache.
void read_once(const data::TokenSource& source) {
  std::vector<char> part(std::size_t{4} << 20);
  for (const data::SourceFile& each : source.files()) {
    const auto file = FileSystem::posix().open(each.path);
    for (std::int64_t at = 0; at < file->size(); at += static_cast<std::int64_t>(part.size()))
      file->read(at, part.data(),
                 std::min(static_cast<std::int64_t>(part.size()), file->size() - at));
  }
}

struct Measured {
  double open_seconds = 0, first_batch_seconds = 0, seconds = 0;
  std::int64_t micro_batches = 0;  // of all ranks
  double tokens_per_second = 0;    // of all ranks
};

// What a consumer at least does with a batch: every id and target passes through a register.
std::int64_t look_at(const data::Batch& batch) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < batch.ids.size(); ++i) sum += batch.ids[i] ^ batch.targets[i];
  return sum;
}

Measured measure(const Config& config, const Options& options, data::TokenSource& source,
                 comm::Communicator& ranks) {
  const comm::Topology topology = comm::make_topology(config, ranks.rank(), ranks.size());
  Measured result;
  ranks.barrier();
  auto start = Clock::now();
  const auto loader = train::make_loader(config, topology, source, 0, kSteps);
  volatile std::int64_t seen = look_at(loader->next());
  result.first_batch_seconds = seconds_since(start);
  ranks.barrier();
  start = Clock::now();
  while (seconds_since(start) < options.seconds) {
    seen = seen + look_at(loader->next());
    ++result.micro_batches;
  }
  result.seconds = seconds_since(start);
  double sums[2] = {
      static_cast<double>(result.micro_batches),
      static_cast<double>(result.micro_batches * config.train.micro_batch * config.model.context) /
          result.seconds};
  ranks.all_reduce(sums, 2);
  result.micro_batches = static_cast<std::int64_t>(sums[0]);
  result.tokens_per_second = sums[1];
  return result;
}

void print(const Config& config, const Options& options, const data::TokenSource& source,
           const Measured& m, std::int64_t ranks) {
  const double pads = static_cast<double>(source.padding()) /
                      static_cast<double>(source.tokens() + source.padding());
  const auto shards = static_cast<std::int64_t>(source.files().size());
  if (options.json) {
    OrderedJson folders = OrderedJson::array();
    for (const DataSource& each : config.data.train)
      folders.push_back({{"path", each.path}, {"weight", each.weight}});
    std::cout << OrderedJson{{"data", folders},
                             {"shards", shards},
                             {"tokens", source.tokens()},
                             {"padding_fraction", pads},
                             {"context", config.model.context},
                             {"micro_batch", config.train.micro_batch},
                             {"global_batch", config.train.global_batch},
                             {"ranks", ranks},
                             {"cached", !options.cold},
                             {"open_seconds", m.open_seconds},
                             {"first_batch_seconds", m.first_batch_seconds},
                             {"seconds", m.seconds},
                             {"micro_batches", m.micro_batches},
                             {"tokens_per_second", m.tokens_per_second}}
                     .dump()
              << "\n";
    return;
  }
  std::cout << format_table(
      {{fmt::format("{} shard folder{}", config.data.train.size(),
                    config.data.train.size() == 1 ? "" : "s"),
        "value"},
       {"shards", with_commas(shards)},
       {"tokens", with_commas(source.tokens())},
       {"padding", fmt::format("{:.1f} % of a pass", 100 * pads)},
       {"context x micro-batch",
        fmt::format("{} x {}", config.model.context, config.train.micro_batch)},
       {"ranks", std::to_string(ranks)},
       {"opening", fmt::format("{:.1f} ms", 1e3 * m.open_seconds)},
       {"first batch", fmt::format("{:.1f} ms", 1e3 * m.first_batch_seconds)},
       {options.cold ? "tokens/s" : "tokens/s from page cache", human_count(m.tokens_per_second)}});
}

void run(const Options& options) {
  const Config config = configuration(options);
  std::vector<data::SourceSpec> sources;
  for (const DataSource& each : config.data.train) sources.push_back({each.path, each.weight});
  const auto start = Clock::now();
  const auto source = data::open_tokens(sources, train::source_options(config, true));
  const double open_seconds = seconds_since(start);
  if (!options.cold) read_once(*source);
  comm::Session session;
  comm::Communicator& ranks = session.world();
  Measured measured = measure(config, options, *source, ranks);
  measured.open_seconds = open_seconds;
  if (ranks.rank() == 0) print(config, options, *source, measured, ranks.size());
}

}  // namespace

void add_bench_data(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      bench.add_subcommand("data", "How fast token shards reach training, through its loader");
  command
      ->add_option("inputs", options->inputs,
                   "YAML configuration, or shard folders; then key=value (model.context, "
                   "train.micro_batch, data.padding, ...)")
      ->required();
  command->add_option("--weights", options->weights, "Of the shard folders: 3,1")->delimiter(',');
  command->add_option("--seconds", options->seconds, "To measure for")
      ->check(CLI::Range(0.01, 3600.0));
  command->add_flag("--cold", options->cold,
                    "Without reading all shards once before, into the page cache");
  command->add_flag("--json", options->json, "Print one JSON line");
  command->footer(example("tessera bench data runs/data/quickstart/train model.context=256"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
