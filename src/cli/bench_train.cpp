// tessera bench train CONFIG: times whole optimizer steps on random tokens, then the parts of one.
// On the CPU the matrix-product speed of the same run stands beside it, on CUDA the MFU.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/bench.h"
#include "cli/common.h"
#include "comm/communicator.h"
#include "comm/topology.h"
#include "config/load.h"
#include "core/device_memory.h"
#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"
#include "core/random.h"
#include "core/text.h"
#include "core/threads.h"
#include "kernels/gemm.h"
#include "model/flops.h"
#include "parallel/agreements.h"
#include "parallel/measured_costs.h"
#include "parallel/rank_engine.h"
#include "parallel/stage_memory.h"
#include "train/setup.h"

namespace tessera::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  std::string pieces;  // file for piece times
  std::int64_t steps = 10, warmup = 2;
  bool json = false;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// FLOP/s of C = A B^T at the shape of the model's MLP product, median of several, on this rank.
double gemm_speed(const Config& config) {
  const std::int64_t rows = std::max<std::int64_t>(
      256, std::min<std::int64_t>(8192, config.train.micro_batch * config.model.context));
  const std::int64_t in = config.model.width, out = config.model.ffn_mult * in;
  std::vector<float> a(static_cast<std::size_t>(rows * in), 0.5f);
  std::vector<float> b(static_cast<std::size_t>(out * in), 0.25f);
  std::vector<float> c(static_cast<std::size_t>(rows * out));
  kernels::Gemm<float> args;
  args.transpose_b = true;
  args.m = rows;
  args.n = args.ldc = out;
  args.k = args.lda = args.ldb = in;
  args.a = a.data();
  args.b = b.data();
  args.c = c.data();
  const double flops = 2.0 * double(rows) * double(in) * double(out);
  std::vector<double> speeds;
  for (int i = 0; i < 12; ++i) {
    const auto start = Clock::now();
    kernels::gemm<float>({}, args);
    if (i >= 2) speeds.push_back(flops / seconds_since(start));
  }
  return median(speeds);
}

struct Measured {
  double step_seconds = 0, gemm_flops = 0;
  std::vector<parallel::PartTime> parts;  // of one micro-batch, in order
  // Bytes a rank, on rank 0: planned, expected beside that, given away by the GPU.
  std::vector<std::int64_t> planned, libraries, used;
};

// What every rank planned and what its GPU has given away, on rank 0.
void gather_memory(comm::Communicator& ranks, bool cuda, std::int64_t planned,
                   std::int64_t libraries, Measured& result) {
  const DeviceInfo info = cuda ? device_info() : DeviceInfo{};
  for (const std::string& text : ranks.gather_text(
           OrderedJson({planned, libraries, info.total_bytes - info.free_bytes}).dump())) {
    const Json bytes = parse_json(text, "a rank's memory");
    result.planned.push_back(bytes.at(0).get<std::int64_t>());
    result.libraries.push_back(bytes.at(1).get<std::int64_t>());
    result.used.push_back(bytes.at(2).get<std::int64_t>());
  }
}

Measured measure(const Config& config, const Options& options, comm::Communicator& ranks,
                 parallel::Engine& engine, std::int64_t replicas) {
  const std::int64_t context = config.model.context, micro = config.train.micro_batch;
  const CounterRandom random(config.seed, static_cast<std::uint64_t>(ranks.rank()));
  std::vector<std::int32_t> ids(static_cast<std::size_t>(micro * context));
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] =
        static_cast<std::int32_t>(random.bits(i) % static_cast<std::uint64_t>(config.model.vocab));
  const model::MicroBatch batch{micro, ids.data(), ids.data()};
  Measured result;
  ranks.barrier();
  if (engine.device() == Device::cpu) result.gemm_flops = gemm_speed(config);
  ranks.all_reduce(&result.gemm_flops, 1);

  std::vector<double> steps;
  for (std::int64_t n = 1; n <= options.warmup + options.steps; ++n) {
    ranks.barrier();
    const auto start = Clock::now();
    engine.begin_step(1.0 / double(config.train.global_batch * context));
    for (std::int64_t m = 0; m < config.train.global_batch / (micro * replicas); ++m)
      engine.accumulate(batch);
    engine.reduce_gradients();
    const parallel::Agreement agreement = engine.agree({});
    engine.update(n, 1e-5, std::min(1.0, 1.0 / (agreement.gradient_norm + 1e-6)));
    // Steps overlap as in training: on CUDA the update runs behind the next step's input.
    if (n == options.warmup + options.steps) engine.synchronize();
    ranks.barrier();
    if (n > options.warmup) steps.push_back(seconds_since(start));
  }
  result.step_seconds = median(steps);
  engine.time_parts(batch);  // once to warm up
  result.parts = engine.time_parts(batch);
  return result;
}

// "layer 3 backward" -> "layers backward": one line a kind.
std::string kind_of(const std::string& part) {
  const std::size_t digit = part.find_first_of("0123456789");
  if (digit == std::string::npos) return part;
  const std::size_t rest = part.find(' ', digit);
  return part.substr(0, digit - 1) + "s" + (rest == std::string::npos ? "" : part.substr(rest));
}

std::vector<parallel::PartTime> by_kind(const std::vector<parallel::PartTime>& parts) {
  std::vector<parallel::PartTime> kinds;
  for (const parallel::PartTime& part : parts) {
    const std::string kind = kind_of(part.part);
    auto found = std::find_if(kinds.begin(), kinds.end(),
                              [&](const parallel::PartTime& k) { return k.part == kind; });
    if (found == kinds.end()) found = kinds.insert(kinds.end(), {kind, 0.0});
    found->milliseconds += part.milliseconds;
  }
  return kinds;
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

void run(const Options& options) {
  Config config = load_config(options.config, options.overrides);
  comm::Session session;
  const Device device = train::resolve_device(config, session.local_rank());
  const std::int64_t threads = use_threads(session.local_ranks());
  comm::Communicator& ranks = session.world();
  const comm::Topology topology = comm::make_topology(config, ranks.rank(), ranks.size());
  if (!options.pieces.empty() && topology.world > 1)
    throw Error(Category::config, "--pieces measures a whole model on one rank, but " +
                                      std::to_string(topology.world) + " were started");
  train::call_roll(session, topology, device);
  const auto engine = parallel::make_engine(config, device, topology, ranks);
  MemoryPlan plan;
  engine->plan(plan);
  train::require_fits(config, device, topology, plan);
  const Arena arena(plan, device);
  engine->bind(arena);
  engine->initialise(config.seed);
  parallel::agree_on_algorithms(*engine, topology, ranks, "", "");
  Measured m = measure(config, options, ranks, *engine, topology.replicas);
  const bool cuda = device == Device::cuda;
  gather_memory(ranks, cuda, plan.total_bytes(),
                parallel::library_bytes(device, parallel::schedule_shape(config, topology),
                                        topology.stage, topology.replicas),
                m);
  if (topology.rank != 0) return;
  if (!options.pieces.empty())
    write_atomically(FileSystem::posix(), options.pieces,
                     parallel::to_json(parallel::piece_times(
                         config, device == Device::cuda ? device_info().name : "cpu", m.parts)));

  const double tokens = double(config.train.global_batch * config.model.context);
  const double rate = tokens / m.step_seconds;
  const double flops = model::training_flops_per_token(config.model);
  const double mfu = rate * flops / model::kDenseBf16Flops / double(topology.world);
  const auto parts = by_kind(m.parts);
  if (options.json) {
    OrderedJson json = {{"config", options.config},
                        {"device", cuda ? device_info().name : "cpu"},
                        {"precision", config.precision == Precision::bf16 ? "bf16" : "fp32"},
                        {"ranks", topology.world},
                        {"threads", threads},
                        {"micro_batch", config.train.micro_batch},
                        {"step_ms", 1e3 * m.step_seconds},
                        {"tokens_per_second", rate},
                        {"flops_per_token", flops},
                        {"flops_per_second", rate * flops},
                        {"memory_bytes", m.planned}};
    if (cuda) {
      json["library_bytes"] = m.libraries;
      json["device_bytes_used"] = m.used;
      json["mfu"] = mfu;
    } else {
      json["gemm_flops_per_second"] = m.gemm_flops;
      json["fraction_of_gemm"] = rate * flops / m.gemm_flops;
    }
    json["parts_ms"] = OrderedJson::object();
    for (const parallel::PartTime& part : parts) json["parts_ms"][part.part] = part.milliseconds;
    std::cout << json.dump() << "\n";
    return;
  }
  std::vector<std::vector<std::string>> rows = {
      {"median of " + std::to_string(options.steps) + " steps", "value"},
      {"device", cuda ? device_info().name : "cpu"},
      {"ranks x threads", std::to_string(topology.world) + " x " + std::to_string(threads)},
      {"step", number("%.2f ms", 1e3 * m.step_seconds)},
      {"tokens/s", number("%.0f", rate)},
      {"MFLOP/token", number("%.3f", flops / 1e6)},
      {"GFLOP/s", number("%.1f", rate * flops / 1e9)}};
  if (cuda) {
    rows.push_back({"MFU (of 989 TFLOP/s)", number("%.3f", mfu)});
  } else {
    rows.push_back({"sgemm GFLOP/s, same run", number("%.1f", m.gemm_flops / 1e9)});
    rows.push_back({"fraction of sgemm", number("%.3f", rate * flops / m.gemm_flops)});
  }
  for (std::size_t r = 0; r < m.planned.size(); ++r)
    rows.push_back({"memory of rank " + std::to_string(r),
                    human_bytes(m.planned[r]) +
                        (cuda ? ", the GPU has given away " + human_bytes(m.used[r]) : "")});
  for (const parallel::PartTime& part : parts)
    rows.push_back({part.part, number("%.3f ms", part.milliseconds)});
  std::cout << format_table(rows);
}

}  // namespace

void add_bench_train(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  CLI::App* train =
      bench.add_subcommand("train", "Whole optimizer steps on random tokens, and time by part");
  train->add_option("config", options->config, "YAML configuration")->required();
  train->add_option("overrides", options->overrides, "key=value");
  train->add_option("--steps", options->steps, "Steps to time")->check(CLI::Range(1, 100000));
  train->add_option("--warmup", options->warmup, "Steps before that")->check(CLI::Range(0, 100000));
  train->add_option("--pieces", options->pieces,
                    "Write the time of every piece to this file, for `tessera plan --costs`");
  train->add_flag("--json", options->json, "Print one JSON line");
  train->footer(example("mpirun -np 2 tessera bench train configs/quickstart/block.yaml"));
  train->callback([options] { run(*options); });
}

}  // namespace tessera::cli
