// tessera eval: loss, perplexity and bits per byte of a checkpoint on token shards and running
// text, and zero-shot tasks.
#include <algorithm>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/eval_tasks.h"
#include "cli/prompts.h"
#include "comm/communicator.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "core/threads.h"
#include "data/token_source.h"
#include "eval/loss.h"
#include "eval/positions.h"
#include "model/architecture.h"
#include "parallel/loss_model.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string checkpoint;
  std::vector<std::string> data;
  std::int64_t sequences = 0, micro_batch = 8;
  std::string device = "auto", precision = "auto";
  TaskOptions tasks;
  bool positions = false, json = false;
};

std::unique_ptr<data::TokenSource> open_source(const Options& options, const LoadedModel& loaded) {
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
  auto source = data::open_tokens(sources, reading);
  if (source->vocab_size() > model.vocab)
    throw Error(Category::config, "the data needs a vocabulary of " +
                                      std::to_string(source->vocab_size()) + ", the model has " +
                                      std::to_string(model.vocab));
  return source;
}

// Means over runs of positions, each twice as long as the one before it.
std::string position_table(const eval::LossByPosition& by_position) {
  std::vector<std::vector<std::string>> rows = {{"position", "loss"}};
  for (std::size_t j = 0; j < by_position.in_block.size(); ++j)
    rows.push_back(
        {"in the block: " + std::to_string(j + 1), std::to_string(by_position.in_block[j])});
  const auto size = by_position.in_context.size();
  for (std::size_t begin = 0, end = 16; begin < size; begin = end, end *= 2) {
    double sum = 0, count = 0;
    for (std::size_t t = begin; t < std::min(end, size); ++t)
      if (by_position.in_context[t] > 0) sum += by_position.in_context[t], ++count;
    if (count > 0)
      rows.push_back({"in the context: " + std::to_string(begin) + " to " +
                          std::to_string(std::min(end, size) - 1),
                      std::to_string(sum / count)});
  }
  return format_table(rows);
}

void evaluate_shards(const Options& options, const LoadedModel& loaded, Device device,
                     Precision precision, comm::Communicator& ranks) {
  const ModelConfig& model = loaded.config.model;
  const auto source = open_source(options, loaded);
  const auto loss_model =
      parallel::make_loss_model(model, device, precision, options.micro_batch,
                                loaded.parameters.data(), model::model_options(loaded.config));
  const eval::EvaluationShare share{ranks.rank(), ranks.size(), true};
  const eval::LossResult r = eval::evaluate_loss(
      model, options.micro_batch,
      [&](const model::MicroBatch& batch) { return loss_model->loss(batch); }, *source, ranks,
      share, options.sequences);
  eval::LossByPosition by_position;
  if (options.positions)
    by_position = eval::evaluate_positions(
        model, options.micro_batch,
        [&](const model::MicroBatch& batch) { return loss_model->score(batch); }, *source, ranks,
        share, options.sequences);
  if (ranks.rank() != 0) return;
  if (options.json) {
    OrderedJson json = {
        {"checkpoint", loaded.path},  {"step", loaded.state.step},        {"loss", r.loss},
        {"perplexity", r.perplexity}, {"bits_per_byte", r.bits_per_byte}, {"targets", r.targets},
        {"bytes", r.bytes},           {"sequences", r.sequences},         {"seconds", r.seconds}};
    if (options.positions) {
      json["loss_by_position_in_block"] = by_position.in_block;
      json["loss_by_position_in_context"] = by_position.in_context;
    }
    std::cout << json.dump() << "\n";
    return;
  }
  std::cout << format_table(
      {{"checkpoint", "step", "loss", "perplexity", "bits/byte", "tokens"},
       {loaded.path, std::to_string(loaded.state.step), std::to_string(r.loss),
        std::to_string(r.perplexity), std::to_string(r.bits_per_byte), with_commas(r.targets)}});
  if (options.positions) std::cout << position_table(by_position);
}

void run(const Options& options) {
  comm::Session session;
  use_threads(session.local_ranks());
  const LoadedModel loaded = load_model(options.checkpoint);
  const auto [device, precision] =
      resolve_device(loaded.config, options.device, options.precision, session.local_rank());
  if (!asks(options.tasks))
    return evaluate_shards(options, loaded, device, precision, session.world());
  const auto results = run_tasks(options.tasks, loaded, device, precision, session.world());
  if (session.world().rank() != 0) return;
  if (!options.json) {
    std::cout << loaded.path << ", step " << loaded.state.step << "\n" << task_table(results);
    return;
  }
  for (const eval::TaskResult& r : results) {
    OrderedJson json = {{"checkpoint", loaded.path}, {"step", loaded.state.step}};
    json.update(to_json(r));
    std::cout << json.dump() << "\n";
  }
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("eval", "Loss and bits per byte on shards and text; zero-shot tasks");
  command->add_option("checkpoint", options->checkpoint, "Run folder or checkpoint")->required();
  command->add_option("--data", options->data, "Shard folders (default: the run's data.valid)");
  command->add_option("--sequences", options->sequences, "Samples of shards to use; 0 = all")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--micro-batch", options->micro_batch, "Samples of shards a forward pass")
      ->check(CLI::PositiveNumber);
  command->add_flag("--positions", options->positions,
                    "Shards: also the loss by position in the block and in the context");
  TaskOptions& tasks = options->tasks;
  command
      ->add_option("--tasks", tasks.tasks,
                   "Zero-shot tasks in place of shards: all, or of lambada, hellaswag, piqa, "
                   "arc_easy, sciq, winogrande, wikitext")
      ->delimiter(',');
  command->add_option("--task-data", tasks.folder, "Folder of the tasks' files");
  command->add_option("--limit", tasks.limit, "Items a task; 0 = all")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--text", tasks.texts,
                      "Files of running text in place of shards (.zst, .gz too)");
  command->add_option("--requests", tasks.requests,
                      "Files of token ids to score, a line {\"context\": [...], "
                      "\"continuation\": [...]} each, in place of shards; see --items");
  command->add_option("--tokenizer", tasks.tokenizer,
                      "tokenizer.json for tasks and text (default: the checkpoint's)");
  command
      ->add_option("--padding", tasks.padding,
                   "Block models: pad (all tokens but the first are scored), no-pad (the first "
                   "block is context) or auto (as trained)")
      ->check(CLI::IsMember({"auto", "pad", "no-pad"}));
  command->add_option(
      "--items", tasks.items,
      "Write every request of tasks and text, its token ids and score into this file");
  command
      ->add_option("--batch", tasks.batch_tokens,
                   "Tokens of tasks and text a forward pass; 0 = by the device")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--device", options->device, "auto (default), cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command
      ->add_option("--precision", options->precision, "auto (default: bf16 on CUDA), bf16 or fp32")
      ->check(CLI::IsMember({"auto", "bf16", "fp32"}));
  command->add_flag("--json", options->json, "Print JSON, a line a task");
  command->footer(example("mpirun -np 2 tessera eval runs/quickstart-block"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
