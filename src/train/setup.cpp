#include "train/setup.h"

#include <spdlog/spdlog.h>

#include "comm/roll_call.h"
#include "core/device_memory.h"
#include "core/error.h"
#include "core/text.h"
#include "data/shard_folder.h"
#include "kernels/gemm.h"
#include "model/architecture.h"
#include "model/flops.h"
#include "parallel/engine.h"

namespace tessera::train {
namespace {

std::unique_ptr<data::TokenSource> open_source(const std::vector<DataSource>& sources,
                                               const Config& config, bool shuffle,
                                               const std::string& key) {
  std::vector<data::SourceSpec> specs;
  for (const DataSource& s : sources) specs.push_back({s.path, s.weight});
  auto source = data::open_tokens(specs, source_options(config, shuffle));
  if (source->vocab_size() > config.model.vocab)
    throw Error(Category::config,
                fmt::format("{}: its tokens need model.vocab >= {}, but model.vocab is {}", key,
                            source->vocab_size(), config.model.vocab));
  return source;
}

std::string source_line(const char* what, const data::TokenSource& source) {
  std::string line =
      fmt::format("{}: {} tokens, {} samples of {}", what, human_count(double(source.tokens())),
                  with_commas(source.samples()), source.context());
  if (source.padding() > 0)
    line += fmt::format(", {:.3g}% padding added",
                        100.0 * double(source.padding()) / double(source.tokens()));
  return line;
}

// Of several sources: what each of them is to give.
std::string blend_table(const data::TokenSource& source, std::int64_t samples) {
  std::vector<std::vector<std::string>> rows = {{"source", "share", "samples", "epochs"}};
  for (const data::SourceUse& use : source.used(samples))
    rows.push_back({use.path, fmt::format("{:.4g}%", 100 * use.share), with_commas(use.samples),
                    fmt::format("{:.3g}", use.epochs())});
  return format_table(rows);
}

}  // namespace

Device resolve_device(Config& config, std::int64_t local_rank) {
  const bool found = cuda_device_count() > 0;
  const Device device = config.device == DeviceChoice::cpu             ? Device::cpu
                        : config.device == DeviceChoice::cuda || found ? Device::cuda
                                                                       : Device::cpu;
  const bool cuda = device == Device::cuda;
  std::string problems;
  const auto refuse = [&](const std::string& problem) {
    problems += (problems.empty() ? "" : "; ") + problem;
  };
  if (cuda && !found)
    refuse(kernels::kHasCuda ? "device: cuda was asked for, but this machine shows no CUDA device"
                             : "device: cuda was asked for, but this build has no CUDA backend");
  if (config.precision == Precision::automatic)
    config.precision = cuda ? Precision::bf16 : Precision::fp32;
  if (!cuda && config.precision == Precision::bf16) refuse("precision: the CPU trains in fp32");
  if (!cuda && config.attention == AttentionChoice::cudnn) refuse("attention: cudnn needs a GPU");
  if (cuda && config.precision == Precision::fp32 && config.attention == AttentionChoice::cudnn)
    refuse("attention: cudnn computes in bf16, but precision is fp32");
  if (!problems.empty()) throw Error(Category::config, problems);
  if (cuda) use_gpu(local_rank);
  return device;
}

std::string call_roll(comm::Session& session, const comm::Topology& topology, Device device) {
  if (topology.world == 1) return "";
  return comm::roll_call(session.world(), topology,
                         comm::attend(topology.rank, session.local_rank(), device, build_name()));
}

void require_fits(const Config& config, Device device, const comm::Topology& topology,
                  const MemoryPlan& plan) {
  if (device == Device::cpu) return;
  const std::int64_t free = device_info().free_bytes;
  if (plan.total_bytes() <= free) return;
  const auto single = comm::make_single();
  std::string advice = "nothing smaller fits: use a smaller model or train.recompute: layer";
  for (std::int64_t micro = config.train.micro_batch / 2; micro >= 1; micro /= 2) {
    Config smaller = config;
    smaller.train.micro_batch = micro;
    MemoryPlan lower;
    parallel::make_engine(smaller, device, topology, *single)->plan(lower);
    if (lower.total_bytes() > free) continue;
    advice = fmt::format("train.micro_batch: {} needs {} and would fit", micro,
                         human_bytes(lower.total_bytes()));
    break;
  }
  throw Error(
      Category::device,
      fmt::format("the plan needs {} of device memory, {} are free; {}\n{}",
                  human_bytes(plan.total_bytes()), human_bytes(free), advice, memory_table(plan)));
}

data::SourceOptions source_options(const Config& config, bool shuffle) {
  data::SourceOptions options;
  options.context = config.model.context;
  options.seed = config.seed;
  options.shuffle = shuffle;
  options.skip_bad = config.data.on_bad_chunk == OnBadChunk::skip;
  options.padding = config.data.padding;
  options.block_length = config.model.block_length;
  return options;
}

std::unique_ptr<data::Loader> make_loader(const Config& config, const comm::Topology& topology,
                                          data::TokenSource& source, std::int64_t first_step,
                                          std::int64_t last_step) {
  data::LoaderOptions options;
  options.global_batch = config.train.global_batch;
  options.micro_batch = config.train.micro_batch;
  options.replica = topology.replica;
  options.replicas = topology.replicas;
  options.first_step = first_step;
  options.last_step = last_step;
  options.first_target = model::first_target(config.model);
  return std::make_unique<data::Loader>(source, options);
}

void require_equal_data(const Data& data, comm::Communicator& ranks) {
  const auto all = [&] {
    return data.train->digest() + (data.valid ? " " + data.valid->digest() : "");
  };
  const std::string first = comm::broadcast_text(ranks, all());
  double others = first == all() ? 0 : 1;
  ranks.all_reduce(&others, 1);
  if (others == 0) return;
  throw Error(Category::data,
              fmt::format("{:.0f} of {} ranks see other training or validation data than rank 0{}: "
                          "make the shards the same everywhere",
                          others, ranks.size(), first == all() ? "" : ", this one among them"));
}

void verify_data(const Config& config, std::int64_t rank, std::int64_t ranks) {
  std::int64_t number = 0;
  for (const auto* sources : {&config.data.train, &config.data.valid})
    for (const DataSource& source : *sources) {
      const data::ShardFolder folder = data::open_shard_folder(source.path);
      for (std::size_t i = 0; i < folder.manifest.shards.size(); ++i)
        if (number++ % ranks == rank) data::verify_shard(folder, i);
    }
}

Data open_data(const Config& config) {
  if (config.data.train.empty())
    throw Error(Category::config,
                "data.train is empty: name a shard folder made by `tessera prepare`");
  Data data;
  data.train = open_source(config.data.train, config, true, "data.train");
  if (!config.data.valid.empty())
    data.valid = open_source(config.data.valid, config, false, "data.valid");
  return data;
}

std::string memory_table(const MemoryPlan& plan) {
  std::vector<std::vector<std::string>> rows = {{"memory a rank", "bytes", ""}};
  for (const MemorySegment& s : plan.segments())
    rows.push_back({s.name, with_commas(s.bytes), human_bytes(s.bytes)});
  rows.push_back({"total", with_commas(plan.total_bytes()), human_bytes(plan.total_bytes())});
  return format_table(rows);
}

std::string model_lines(const ModelConfig& c, const model::ParameterTable& table) {
  const std::string depth =
      c.kind == ModelKind::vanilla
          ? fmt::format("{} layers", c.layers)
          : fmt::format("{} block decoder + {} token decoder layers, blocks of {}{}, prefix {}",
                        c.block_layers, c.token_layers, c.block_length,
                        c.embedder == Embedder::projection ? " projected" : "", c.prefix);
  return fmt::format(
      "model {}: {}, width {}, {} heads, context {}, vocabulary {}\n"
      "  {} parameters ({} without embeddings, expansion and classifier), {:.4g} MFLOP a token",
      c.kind == ModelKind::vanilla ? "vanilla" : "block", depth, c.width, c.heads, c.context,
      c.vocab, with_commas(table.total()), with_commas(model::non_embedding_parameters(table)),
      model::training_flops_per_token(c) / 1e6);
}

void report_start(const Config& config, const std::string& run_path, const comm::Topology& topology,
                  const Data& data, const model::ParameterTable& table, const MemoryPlan& plan,
                  std::int64_t threads, Device device) {
  if (topology.rank != 0) return;
  spdlog::info("Tessera {}, run {}", build_name(), run_path);
  spdlog::info("{}", model_lines(config.model, table));
  if (device == Device::cuda) {
    const DeviceInfo info = device_info();
    spdlog::info("{}, {}, {} free of {}", info.name,
                 config.precision == Precision::bf16 ? "bf16 with fp32 masters" : "fp32",
                 human_bytes(info.free_bytes), human_bytes(info.total_bytes));
  } else {
    spdlog::info("cpu, fp32, {} rank{} x {} thread{}, {}", topology.world,
                 topology.world == 1 ? "" : "s", threads, threads == 1 ? "" : "s",
                 kernels::cpu::gemm_library());
    if (const std::string warning = kernels::cpu::gemm_warning(); !warning.empty())
      spdlog::warn("{}", warning);
  }
  spdlog::info("{}", source_line("training data", *data.train));
  if (data.valid) spdlog::info("{}", source_line("validation data", *data.valid));
  const std::int64_t wanted = config.train.steps * config.train.global_batch;
  if (config.data.train.size() > 1) spdlog::info("{}", blend_table(*data.train, wanted));
  spdlog::info("{} steps of {} sequences: {} tokens, {:.3g} epochs", config.train.steps,
               config.train.global_batch, human_count(double(wanted * config.model.context)),
               double(wanted) / double(data.train->samples()));
  spdlog::info("{}", memory_table(plan));
}

void report_use(const data::TokenSource& source, std::int64_t samples) {
  for (const data::SourceUse& use : source.used(samples))
    spdlog::info("read so far of {}: {} samples, {} tokens, {:.3g} epochs", use.path,
                 with_commas(use.samples), human_count(double(use.samples * source.context())),
                 use.epochs());
}

std::string build_name() {
  return TESSERA_BUILD;
}

}  // namespace tessera::train
