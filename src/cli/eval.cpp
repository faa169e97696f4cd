// tessera eval: loss, perplexity and bits per byte of a checkpoint on token shards.
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "comm/communicator.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "core/threads.h"
#include "data/token_source.h"
#include "eval/loss.h"
#include "model/architecture.h"
#include "parallel/loss_model.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string checkpoint;
  std::vector<std::string> data;
  std::int64_t sequences = 0, micro_batch = 8;
  std::string device = "auto";
  bool json = false;
};

void run(const Options& options) {
  comm::Session session;
  use_threads(session.local_ranks());
  const LoadedModel loaded = load_model(options.checkpoint);
  const ModelConfig& model = loaded.config.model;

  std::vector<data::SourceSpec> sources;
  for (const std::string& path : options.data) sources.push_back({path, 1});
  if (sources.empty())
    for (const DataSource& s : loaded.config.data.valid) sources.push_back({s.path, s.weight});
  if (sources.empty())
    throw Error(Category::config,
                loaded.path + ": its configuration names no data.valid; give --data FOLDER");
  data::SourceOptions reading = train::source_options(loaded.config, false);
  reading.skip_bad = false;
  const auto source = data::open_tokens(sources, reading);
  if (source->vocab_size() > model.vocab)
    throw Error(Category::config, "the data needs a vocabulary of " +
                                      std::to_string(source->vocab_size()) + ", the model has " +
                                      std::to_string(model.vocab));

  Config wanted = loaded.config;
  wanted.device = options.device == "cpu"    ? DeviceChoice::cpu
                  : options.device == "cuda" ? DeviceChoice::cuda
                                             : DeviceChoice::automatic;
  wanted.precision = Precision::automatic;
  const Device device = train::resolve_device(wanted, session.local_rank());
  const auto loss_model =
      parallel::make_loss_model(model, device, wanted.precision, options.micro_batch,
                                loaded.parameters.data(), model::model_options(wanted));
  const eval::LossResult r = eval::evaluate_loss(
      model, options.micro_batch,
      [&](const model::MicroBatch& batch) { return loss_model->loss(batch); }, *source,
      session.world(), {session.world().rank(), session.world().size(), true}, options.sequences);
  if (session.world().rank() != 0) return;
  if (options.json) {
    std::cout << OrderedJson({{"checkpoint", loaded.path},
                              {"step", loaded.state.step},
                              {"loss", r.loss},
                              {"perplexity", r.perplexity},
                              {"bits_per_byte", r.bits_per_byte},
                              {"targets", r.targets},
                              {"bytes", r.bytes},
                              {"sequences", r.sequences},
                              {"seconds", r.seconds}})
                     .dump()
              << "\n";
    return;
  }
  std::cout << format_table(
      {{"checkpoint", "step", "loss", "perplexity", "bits/byte", "tokens"},
       {loaded.path, std::to_string(loaded.state.step), std::to_string(r.loss),
        std::to_string(r.perplexity), std::to_string(r.bits_per_byte), with_commas(r.targets)}});
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("eval", "Loss, perplexity and bits per byte of a checkpoint on shards");
  command->add_option("checkpoint", options->checkpoint, "Run folder or checkpoint")->required();
  command->add_option("--data", options->data, "Shard folders (default: the run's data.valid)");
  command->add_option("--sequences", options->sequences, "Samples to use; 0 = all")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--micro-batch", options->micro_batch, "Sequences a forward pass")
      ->check(CLI::PositiveNumber);
  command->add_option("--device", options->device, "auto (default), cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(example("mpirun -np 2 tessera eval runs/quickstart-block"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
