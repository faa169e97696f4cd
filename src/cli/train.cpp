// tessera train: the main job, alone or under mpirun.
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "comm/communicator.h"
#include "config/load.h"
#include "core/error.h"
#include "core/text.h"
#include "train/resume.h"
#include "train/trainer.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  train::TrainOptions train;
  bool print_config = false;
};

void run(const Options& options) {
  const Config config = load_config(options.config, options.overrides);
  if (options.print_config) {
    std::cout << resolved_config(config);
    return;
  }
  train::require_allowable(options.train.allow_change);
  train::TrainOutcome outcome;
  bool first = true;
  {
    comm::Session session;
    first = session.world().rank() == 0;
    outcome = train::train(config, options.train, session);
  }
  if (outcome.stopped)
    throw Error(Category::stopped, "stopped on request at step " + std::to_string(outcome.step) +
                                       ", saved " + outcome.checkpoint +
                                       "; the same command goes on from there");
  if (first && outcome.step > outcome.first_step)
    std::cout << "done: " << outcome.step - outcome.first_step << " steps in "
              << human_duration(outcome.seconds) << ", checkpoint " << outcome.checkpoint << "\n";
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "train", "Train a model; goes on from the run's newest checkpoint where there is one");
  command->add_option("config", options->config, "YAML configuration")->required();
  command->add_option("overrides", options->overrides, "key=value, e.g. train.steps=100");
  command->add_flag("--fresh", options->train.fresh,
                    "Start over: remove the run's checkpoints and metrics");
  command
      ->add_option(
          "--allow-change", options->train.allow_change,
          "Continue although KEY (schedule or training data) differs from the checkpoint's; "
          "may be repeated")
      ->type_name("KEY")
      ->allow_extra_args(false);
  command->add_flag(
      "--no-fallback", options->train.no_fallback,
      "Leave with 65 when the newest checkpoint does not verify, instead of taking an "
      "older one");
  command->add_flag("--verify", options->train.verify_data,
                    "First read all shards and compare every digest, shared among the ranks");
  command->add_flag("--print-config", options->print_config,
                    "Print the resolved configuration and leave");
  command->footer(
      example("mpirun -np 2 tessera train configs/quickstart/block.yaml train.steps=200"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
