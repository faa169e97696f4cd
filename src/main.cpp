// tessera: parse, run one command, turn any failure into one sentence and an exit code.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "comm/communicator.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "train/setup.h"

namespace {

// The sentence, once: other ranks wait two seconds, since an error that all share is rank 0's to
// tell (its abort ends them), while an error of one rank alone still gets told.
int leave(const std::string& message, int code) {
  const int rank = tessera::comm::Session::process_rank();
  const bool many = tessera::comm::Session::many_ranks();
  if (rank == 0) {
    std::fprintf(stderr, "tessera: %s\n", message.c_str());
  } else if (many) {
    std::this_thread::sleep_for(std::chrono::seconds(2));
    std::fprintf(stderr, "tessera (rank %d): %s\n", rank, message.c_str());
  }
  if (many) tessera::comm::Session::abort(code);
  return code;
}

// The complaint about a word that is no command, "" when it is one.
std::string unknown_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  if (std::find(names.begin(), names.end(), word) != names.end()) return "";
  const std::string near = tessera::nearest(word, names);
  return "unknown command '" + word + "'" + (near.empty() ? "" : "; did you mean " + near + "?") +
         " (tessera --help lists all)";
}

}  // namespace

int main(int argc, char** argv) {
  using tessera::Category;
  tessera::setup_quiet_log();
  CLI::App app("Tessera pretrains GPT-NeoX language models and Block Transformers.", "tessera");
  app.set_version_flag("--version", tessera::train::build_name());
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  tessera::cli::add_prepare(app);
  tessera::cli::add_inspect(app);
  tessera::cli::add_plan(app);
  tessera::cli::add_train(app);
  tessera::cli::add_eval(app);
  tessera::cli::add_generate(app);
  tessera::cli::add_bench(app);
  tessera::cli::add_export(app);
  tessera::cli::add_import(app);
  if (argc > 1 && argv[1][0] != '-')
    if (const std::string problem = unknown_command(app, argv[1]); !problem.empty())
      return leave(problem, tessera::exit_code(Category::config));
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& problem) {
    const int code = app.exit(problem);  // prints help or the problem
    return code == 0 ? 0 : tessera::exit_code(Category::config);
  } catch (const tessera::Error& problem) {
    return leave(problem.what(), tessera::exit_code(problem.category()));
  } catch (const std::exception& problem) {
    return leave(std::string("internal error: ") + problem.what(),
                 tessera::exit_code(Category::internal));
  }
}
