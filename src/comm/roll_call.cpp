#include "comm/roll_call.h"

#include <array>
#include <map>

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "comm/transport.h"
#include "core/device_memory.h"
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"

namespace tessera::comm {
namespace {

constexpr std::size_t kMostLines = 32;

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
  return name.data();
}

std::string who(const Attendance& a) {
  return fmt::format("rank {} (host {}, local rank {})", a.rank, a.host, a.local_rank);
}

std::string nccl_name(std::int64_t code) {
  return code == 0 ? "none" : fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100);
}

std::string difference(const Attendance& a, const Attendance& b) {
  if (a.build != b.build)
    return fmt::format("{} runs build {}, but {} runs build {}; install one program on all hosts",
                       who(a), a.build, who(b), b.build);
  if (a.gpu.empty() != b.gpu.empty())
    return fmt::format(
        "{} computes on {}, but {} on {}; give device: cpu or device: cuda, and "
        "every rank a GPU for the latter",
        who(a), a.gpu.empty() ? "the CPU" : a.gpu, who(b), b.gpu.empty() ? "the CPU" : b.gpu);
  if (a.nccl != b.nccl)
    return fmt::format("{} has NCCL {}, but {} has {}; install one version on all hosts", who(a),
                       nccl_name(a.nccl), who(b), nccl_name(b.nccl));
  return "";
}

std::vector<std::string> row(const Attendance& a, const Topology& topology) {
  const Topology& t = topology;
  const bool first = t.order == RankOrder::pipeline_first;
  return {std::to_string(a.rank), a.host,
          a.gpu.empty() ? "cpu" : fmt::format("{} {}", a.gpu, a.gpu_id),
          std::to_string(first ? a.rank % t.stages : a.rank / t.replicas),
          std::to_string(first ? a.rank / t.stages : a.rank % t.replicas)};
}

}  // namespace

Attendance attend(std::int64_t rank, std::int64_t local_rank, Device device,
                  const std::string& build) {
  Attendance mine;
  mine.rank = rank;
  mine.local_rank = local_rank;
  mine.host = host_name();
  mine.build = build;
  mine.nccl = device == Device::cuda ? nccl_version() : 0;
  if (device == Device::cuda) {
    const DeviceInfo info = device_info();
    mine.gpu = info.name;
    mine.gpu_id = info.uuid;
  }
  return mine;
}

std::string to_text(const Attendance& a) {
  return OrderedJson{{"rank", a.rank}, {"local_rank", a.local_rank}, {"host", a.host},
                     {"gpu", a.gpu},   {"gpu_id", a.gpu_id},         {"build", a.build},
                     {"nccl", a.nccl}}
      .dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

Attendance attendance_from_text(const std::string& text) {
  try {
    const Json json = parse_json(text, "a rank's answer");
    return {json.at("rank"),   json.at("local_rank"), json.at("host"), json.at("gpu"),
            json.at("gpu_id"), json.at("build"),      json.at("nccl")};
  } catch (const std::exception& problem) {
    throw Error(Category::internal, fmt::format("roll call: a rank's answer cannot be read ({}); "
                                                "do all ranks run the same program?",
                                                problem.what()));
  }
}

std::string roll_call_problem(const std::vector<Attendance>& ranks) {
  std::map<std::string, const Attendance*> gpus;
  for (const Attendance& a : ranks) {
    if (const std::string problem = difference(ranks.front(), a); !problem.empty()) return problem;
    if (a.gpu_id.empty()) continue;
    const auto [other, alone] = gpus.emplace(a.gpu_id, &a);
    if (!alone)
      return fmt::format(
          "{} and {} use the same GPU, {} {}; start at most one rank a GPU and let "
          "every rank see all GPUs of its host",
          who(*other->second), who(a), a.gpu, a.gpu_id);
  }
  return "";
}

std::string roll_call_table(const std::vector<Attendance>& ranks, const Topology& topology) {
  std::vector<std::vector<std::string>> rows = {{"rank", "host", "device", "stage", "replica"}};
  if (ranks.size() <= kMostLines) {
    for (const Attendance& a : ranks) rows.push_back(row(a, topology));
    return format_table(rows);
  }
  std::map<std::string, std::int64_t> on_host;
  for (const Attendance& a : ranks) ++on_host[a.host];
  std::map<std::string, bool> shown;
  for (const Attendance& a : ranks) {
    if (shown[a.host] && &a != &ranks.back()) continue;
    rows.push_back(row(a, topology));
    if (!shown[a.host])
      rows.back()[1] +=
          fmt::format(" ({} rank{})", on_host[a.host], on_host[a.host] == 1 ? "" : "s");
    shown[a.host] = true;
  }
  return format_table(rows);
}

std::string roll_call(Communicator& world, const Topology& topology, const Attendance& mine) {
  std::vector<Attendance> ranks;
  std::string problem;
  const std::vector<std::string> answers = world.gather_text(to_text(mine));
  // Rank 0 judges; whatever it finds, all ranks hear of it before any leaves.
  if (world.rank() == 0) try {
      for (const std::string& answer : answers) ranks.push_back(attendance_from_text(answer));
      problem = roll_call_problem(ranks);
    } catch (const Error& error) {
      problem = error.what();
    }
  problem = broadcast_text(world, problem);
  if (!problem.empty()) throw Error(Category::config, problem);
  return world.rank() == 0 ? roll_call_table(ranks, topology) : "";
}

}  // namespace tessera::comm
