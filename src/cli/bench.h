// The sub-commands of `tessera bench`.
#pragma once

namespace CLI {
class App;
}

namespace tessera::cli {

void add_bench_train(CLI::App& bench);
void add_bench_kernels(CLI::App& bench);
void add_bench_comm(CLI::App& bench);
void add_bench_data(CLI::App& bench);
void add_bench_generate(CLI::App& bench);

}  // namespace tessera::cli
