// tessera bench comm: how fast the ranks exchange arrays, by operation and size, as the trainer's
// own transports do it. Bandwidths by the definitions of nccl-tests (docs/numbers.md).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <spdlog/fmt/fmt.h>

#include "cli/bench.h"
#include "cli/common.h"
#include "cli/kernel_bench/operands.h"
#include "comm/communicator.h"
#include "comm/transport.h"
#include "core/device_memory.h"
#include "core/device_stream.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"

namespace tessera::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;
// Operations a sample, so that small ones are not measured by their first one's way to the GPU.
constexpr std::int64_t kRepeats = 20, kBytesASample = 64 * kMiB;

struct Options {
  std::string device = "auto", filter;
  std::int64_t smallest = 64 * kKiB, largest = 0;  // 0: kGiB, in host memory 64 MiB
  std::int64_t factor = 4, samples = 20, warmup = 5;
  int blocks = 0;  // multiprocessors that an operation holds at most; 0: NCCL's choice
  bool staged = false, json = false;
};

struct Operation {
  std::string name;
  double bus_factor = 1;  // bus bandwidth over size / time
  // Gives the transport one operation on `count` elements a rank.
  std::function<comm::Ticket(std::int64_t count)> give;
};

struct Speed {
  std::string operation;
  std::int64_t bytes = 0;
  double seconds = 0, algorithm = 0, bus = 0;  // bytes a second
};

class CommBench {
 public:
  CommBench(comm::Communicator& world, Device device, const Options& options)
      : world_(world),
        options_(options),
        compute_(device, "bench comm"),
        memory_(allocate_memory(device, 2 * options.largest), {device}),
        transport_(comm::make_transport(
            world, {device, options.staged, 120, "bench", comm::Traffic::all, options.blocks})) {}

  std::vector<Speed> run() {
    std::vector<Speed> speeds;
    const std::int64_t n = world_.size();
    for (const Operation& operation : operations()) {
      if (operation.name.find(options_.filter) == std::string::npos) continue;
      for (std::int64_t bytes = options_.smallest; bytes <= options_.largest;
           bytes *= options_.factor) {
        const std::int64_t count = bytes / (n * kElement) * n;
        if (count == 0) continue;
        const double seconds = measure(operation, count);
        const double rate = static_cast<double>(count * kElement) / seconds;
        speeds.push_back(
            {operation.name, count * kElement, seconds, rate, rate * operation.bus_factor});
      }
    }
    return speeds;
  }

 private:
  static constexpr std::int64_t kElement = 4;

  std::vector<Operation> operations() {
    const std::int64_t n = world_.size(), me = world_.rank();
    const double others = static_cast<double>(n - 1) / static_cast<double>(n);
    constexpr comm::Element kFloat = comm::Element::fp32;
    std::byte* data = memory_.get();
    return {
        {"all_reduce", 2 * others,
         [=, this](std::int64_t count) { return transport_->all_reduce(data, count, kFloat); }},
        {"reduce_scatter", others,
         [=, this](std::int64_t count) {
           return transport_->reduce_scatter(data, count / n, kFloat);
         }},
        {"all_gather", others,
         [=, this](std::int64_t count) { return transport_->all_gather(data, count / n, kFloat); }},
        {"ring", 1, [=, this](std::int64_t count) {
           return transport_->exchange(data, count, (me + 1) % n, data + count * kElement, count,
                                       (me + n - 1) % n, kFloat);
         }}};
  }

  // Seconds of one operation: the slowest rank's, median of the samples.
  double measure(const Operation& operation, std::int64_t count) {
    const std::int64_t n = world_.size(), samples = options_.samples;
    const std::int64_t repeats =
        std::clamp<std::int64_t>(kBytesASample / (count * kElement), 1, kRepeats);
    std::vector<double> seconds(static_cast<std::size_t>(samples * n));
    for (std::int64_t sample = -options_.warmup; sample < samples; ++sample) {
      world_.barrier();
      const auto start = Clock::now();
      transport_->after(compute_);
      comm::Ticket last = 0;
      for (std::int64_t i = 0; i < repeats; ++i) last = operation.give(count);
      transport_->wait(last, compute_);
      compute_.synchronize();
      if (sample >= 0)
        seconds[static_cast<std::size_t>(sample * n + world_.rank())] =
            std::chrono::duration<double>(Clock::now() - start).count();
    }
    world_.all_reduce(seconds.data(), samples * n);  // each rank filled its own column
    std::vector<double> slowest;
    for (auto row = seconds.begin(); row != seconds.end(); row += n)
      slowest.push_back(*std::max_element(row, row + n) / static_cast<double>(repeats));
    std::nth_element(slowest.begin(), slowest.begin() + samples / 2, slowest.end());
    return slowest[static_cast<std::size_t>(samples / 2)];
  }

  comm::Communicator& world_;
  const Options& options_;
  const DeviceStream compute_;
  const OwnedMemory memory_;
  const std::unique_ptr<comm::Transport> transport_;
};

Device choose_device(const Options& options, const comm::Session& session) {
  const int gpus = cuda_device_count();
  if (options.device == "cpu" || (options.device == "auto" && gpus == 0)) return Device::cpu;
  // Staged ranks may share a GPU.
  use_gpu(options.staged && gpus > 0 ? session.local_rank() % gpus : session.local_rank());
  return Device::cuda;
}

std::string transport_name(Device device, const Options& options) {
  if (device == Device::cpu && !options.staged) return "mpi";
  const int nccl = comm::nccl_version();
  if (options.staged || nccl == 0) return "mpi, staged";
  return fmt::format("nccl {}.{}.{}", nccl / 10000, nccl / 100 % 100, nccl % 100);
}

void print(const std::vector<Speed>& speeds, const Options& options, Device device,
           std::int64_t ranks) {
  const std::string device_name = device == Device::cuda ? device_info().name : "cpu";
  const std::string transport = transport_name(device, options);
  std::vector<std::vector<std::string>> rows = {{"operation", "size", "time", "GB/s", "bus GB/s"}};
  for (const Speed& speed : speeds) {
    if (options.json)
      std::cout << OrderedJson{{"operation", speed.operation},
                               {"bytes", speed.bytes},
                               {"microseconds", 1e6 * speed.seconds},
                               {"bytes_per_second", speed.algorithm},
                               {"bus_bytes_per_second", speed.bus},
                               {"ranks", ranks},
                               {"device", device_name},
                               {"transport", transport}}
                       .dump()
                << "\n";
    rows.push_back(
        {speed.operation, human_bytes(speed.bytes), fmt::format("{:.1f} us", 1e6 * speed.seconds),
         fmt::format("{:.2f}", 1e-9 * speed.algorithm), fmt::format("{:.2f}", 1e-9 * speed.bus)});
  }
  if (!options.json)
    std::cout << format_table(rows) << ranks << " ranks, " << device_name << ", " << transport
              << ", float32, median of " << options.samples << "\n";
}

void run(Options options) {
  comm::Session session;
  comm::Communicator& world = session.world();
  if (world.size() == 1)
    throw Error(Category::config,
                "bench comm measures between ranks and was started as one: mpirun -np 2 tessera "
                "bench comm");
  const Device device = choose_device(options, session);
  if (options.blocks > 0 && (device == Device::cpu || options.staged))
    throw Error(Category::config,
                "bench comm: --blocks is for NCCL, between GPUs and without --staged");
  if (options.largest == 0)
    options.largest = device == Device::cuda && !options.staged ? kGiB : 64 * kMiB;
  if (options.largest < options.smallest)
    throw Error(Category::config, "bench comm: --max " + human_bytes(options.largest) +
                                      " is below --min " + human_bytes(options.smallest));
  const std::vector<Speed> speeds = CommBench(world, device, options).run();
  if (world.rank() == 0) print(speeds, options, device, world.size());
}

}  // namespace

void add_bench_comm(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      bench.add_subcommand("comm", "Bandwidth between the ranks, by operation and size");
  const CLI::AsSizeValue size(false);
  const CLI::Range positive(std::int64_t{4}, std::int64_t{1} << 40);
  command->add_option("--min", options->smallest, "Smallest array: 65536, 64KiB, 1MiB")
      ->transform(size)
      ->check(positive);
  command
      ->add_option("--max", options->largest,
                   "Largest array (1GiB between GPUs, 64MiB through host memory)")
      ->transform(size)
      ->check(positive);
  command->add_option("--factor", options->factor, "From one size to the next")
      ->check(CLI::Range(2, 1024));
  command->add_option("--filter", options->filter, "Only operations whose name contains this");
  command->add_option("--samples", options->samples, "Samples to take the median of")
      ->check(CLI::Range(1, 100000));
  command->add_option("--warmup", options->warmup, "Samples before that")
      ->check(CLI::Range(0, 100000));
  command->add_option("--device", options->device, "Where the arrays are: auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command
      ->add_option("--blocks", options->blocks,
                   "Multiprocessors that an operation holds at most (links of a pipeline: 2, "
                   "replicas: 16); 0 = NCCL's choice")
      ->check(CLI::Range(0, 64));
  command->add_flag("--staged", options->staged,
                    "Through page-locked host memory and MPI, although there is NCCL");
  command->add_flag("--json", options->json, "Print JSON lines");
  command->footer(example("mpirun -np 2 tessera bench comm --max 256MiB"));
  command->callback([options] { run(*options); });
}

}  // namespace tessera::cli
