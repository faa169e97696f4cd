// tessera bench: measured speed, one sub-command a subject.
#include "cli/bench.h"

#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace tessera::cli {

void add_bench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure speed");
  bench->require_subcommand(1);
  add_bench_train(*bench);
  add_bench_kernels(*bench);
  add_bench_comm(*bench);
  add_bench_data(*bench);
  add_bench_generate(*bench);
}

}  // namespace tessera::cli
