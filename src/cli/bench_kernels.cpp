// tessera bench kernels: every operation at the shapes of the paper's models, with the fraction of
// the ceiling that the same run measured. bf16 on CUDA, float at small shapes on the CPU.
#include <cstdio>
#include <iostream>

#include <CLI/CLI.hpp>

#include "cli/bench.h"
#include "cli/common.h"
#include "cli/kernel_bench/cases.h"
#include "core/json.h"
#include "core/text.h"
#include "core/threads.h"

namespace tessera::cli {
namespace {

struct Options {
  std::string filter;
  bool cpu = false, json = false;
};

template <typename T>
void time_all(KernelBench& bench, const KernelSuite& suite) {
  time_linear<T>(bench, suite);
  time_rows<T>(bench, suite);
  time_attention<T>(bench, suite);
  time_vocabulary<T>(bench, suite);
  time_optimizer<T>(bench, suite);
  time_decoding<T>(bench, suite);
}

void print_json(const KernelBench& bench) {
  std::cout << OrderedJson({{"device", bench.cuda() ? device_info().name : "cpu"},
                            {"precision", bench.cuda() ? "bf16" : "fp32"},
                            {"copy_bytes_per_second", bench.copy_bandwidth()},
                            {"gemm_flops_per_second", bench.gemm_rate()}})
                   .dump()
            << "\n";
  for (const KernelTime& t : bench.times()) {
    OrderedJson json = {{"operation", t.operation}, {"use", t.use}, {"shape", t.shape}};
    if (!t.refused.empty()) {
      json["refused"] = t.refused;
    } else {
      json["microseconds"] = t.microseconds;
      json["bytes"] = t.bytes;
      json["bytes_per_second"] = 1e6 * t.bytes / t.microseconds;
      json["flops"] = t.flops;
      json["flops_per_second"] = 1e6 * t.flops / t.microseconds;
      json["limit"] = t.compute_bound ? "matrix product" : "copy";
      json["fraction"] = t.fraction;
    }
    std::cout << json.dump() << "\n";
  }
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string flop_rate(double flops_per_second) {
  return flops_per_second < 1e12 ? number("%.1f GFLOP/s", 1e-9 * flops_per_second)
                                 : number("%.1f TFLOP/s", 1e-12 * flops_per_second);
}

// Work and speed at the nearer ceiling alone; JSON has both.
void print_table(const KernelBench& bench) {
  std::vector<std::vector<std::string>> rows = {
      {"operation", "use", "shape", "us", "work", "speed", "of ceiling"}};
  for (const KernelTime& t : bench.times()) {
    if (!t.refused.empty()) {
      rows.push_back({t.operation, t.use, t.shape, "-", "-", "-", "refused"});
      continue;
    }
    const bool c = t.compute_bound;
    rows.push_back({t.operation, t.use, t.shape, number("%.1f", t.microseconds),
                    c ? number("%.2f GFLOP", 1e-9 * t.flops) : number("%.2f MB", 1e-6 * t.bytes),
                    c ? flop_rate(1e6 * t.flops / t.microseconds)
                      : number("%.1f GB/s", 1e-3 * t.bytes / t.microseconds),
                    number("%.2f", t.fraction)});
  }
  std::cout << format_table(rows) << "ceilings of this run: copy "
            << number("%.1f GB/s", 1e-9 * bench.copy_bandwidth()) << " (read + write), "
            << (bench.cuda() ? "bf16" : "fp32") << " matrix product "
            << flop_rate(bench.gemm_rate()) << "\n";
  for (const KernelTime& t : bench.times())
    if (!t.refused.empty())
      std::cout << t.operation << ", " << t.use << ": refused: " << t.refused << "\n";
}

void run(const Options& options) {
  use_threads(1);
  const Device device = !options.cpu && cuda_device_count() > 0 ? Device::cuda : Device::cpu;
  KernelBench bench(device, options.filter);
  if (bench.cuda())
    time_all<kernels::bf16>(bench, paper_suite());
  else
    time_all<float>(bench, small_suite());
  if (bench.times().empty())
    throw Error(Category::config, "--filter: no operation or use contains \"" + options.filter +
                                      "\"; without it all are listed");
  options.json ? print_json(bench) : print_table(bench);
}

}  // namespace

void add_bench_kernels(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "kernels", "Every operation at the paper's shapes, beside the ceilings of the same run");
  command->add_option("--filter", options->filter,
                      "Only operations whose name and use contain this");
  command->add_flag("--cpu", options->cpu, "The CPU's operations, although there is a GPU");
  command->add_flag("--json", options->json, "Print JSON lines, the ceilings first");
  command->footer(example("tessera bench kernels --filter attention"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
