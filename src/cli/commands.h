// The commands of the program: one file each. `add_NAME` declares the sub-command with its options,
// help and example; its callback runs it. A command throws tessera::Error; main turns that into one
// sentence and an exit code.
//
// Conventions: `--json` writes one JSON document (or JSON lines) to standard output and nothing
// else there; progress lines go to standard error and only to a terminal; results for people go to
// standard output.
#pragma once

namespace CLI {
class App;
}

namespace tessera::cli {

void add_prepare(CLI::App& app);
void add_inspect(CLI::App& app);
void add_plan(CLI::App& app);
void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_bench(CLI::App& app);
void add_export(CLI::App& app);
void add_import(CLI::App& app);

}  // namespace tessera::cli
