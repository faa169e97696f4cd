#include "cli/plan_report.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "core/text.h"

namespace tessera::cli {
namespace {

using parallel::LinkTraffic;
using parallel::Prediction;
using parallel::StagePrediction;
using Rows = std::vector<std::vector<std::string>>;

std::string milliseconds(double seconds) {
  return fmt::format("{:.3f} ms", 1e3 * seconds);
}

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

// As the configuration has it.
std::string schedule_value(PipelineSchedule schedule) {
  switch (schedule) {
    case PipelineSchedule::gpipe:
      return "gpipe";
    case PipelineSchedule::one_f_one_b:
      return "1f1b";
    case PipelineSchedule::eager_one_f_one_b:
      return "eager_1f1b";
    case PipelineSchedule::interleaved:
      return "interleaved";
  }
  return "";
}

std::string schedule_name(const Prediction& p) {
  if (p.shape.stages == 1) return "no pipeline";
  return schedule_value(p.shape.kind) +
         (p.shape.chunks > 1 ? fmt::format(" x {}", p.shape.chunks) : "");
}

std::string order_name(RankOrder order) {
  return order == RankOrder::pipeline_first ? "pipeline_first" : "data_first";
}

std::string pieces_of(const StagePrediction& stage) {
  std::string text;
  for (const parallel::PieceRange r : stage.ranges)
    text +=
        (text.empty() ? "" : ", ") +
        (r.end - r.begin == 1 ? std::to_string(r.begin) : fmt::format("{}-{}", r.begin, r.end - 1));
  return text;
}

std::int64_t segment(const MemoryPlan& plan, const std::string& name) {
  for (const MemorySegment& s : plan.segments())
    if (s.name == name) return s.bytes;
  return 0;
}

}  // namespace

std::string layout_line(const Prediction& p) {
  const auto& t = p.topology;
  return fmt::format(
      "{} rank{} = {} replica{} x {} stage{}{}; {}; {} micro-batch{} of {} sequences a replica",
      t.world, t.world == 1 ? "" : "s", t.replicas, t.replicas == 1 ? "" : "s", t.stages,
      t.stages == 1 ? "" : "s",
      t.stages > 1 && t.replicas > 1 ? " (" + order_name(t.order) + ")" : "", schedule_name(p),
      p.shape.micro_batches, p.shape.micro_batches == 1 ? "" : "es", p.config.train.micro_batch);
}

std::string layout_overrides(const Prediction& p) {
  const ParallelConfig& c = p.config.parallel;
  return fmt::format(
      "parallel.pipeline={} parallel.data={} parallel.virtual_stages={} parallel.schedule={} "
      "parallel.order={} train.micro_batch={}",
      c.pipeline, p.topology.replicas, c.virtual_stages, schedule_value(c.schedule),
      order_name(c.order), p.config.train.micro_batch);
}

std::string stage_table(const Prediction& p) {
  Rows rows = {{"stage", "pieces", "parameters", "forward", "backward", "last backward ends",
                "gradients summed", "memory"}};
  for (std::size_t i = 0; i < p.stages.size(); ++i) {
    const StagePrediction& s = p.stages[i];
    rows.push_back({std::to_string(i), pieces_of(s), with_commas(s.parameters),
                    milliseconds(s.forward), milliseconds(s.backward), milliseconds(s.computed),
                    milliseconds(s.reduced), human_bytes(s.memory.total_bytes())});
  }
  return format_table(rows);
}

std::string memory_by_stage(const Prediction& p) {
  Rows rows = {{"memory a rank"}};
  const auto fullest = std::max_element(p.stages.begin(), p.stages.end(),
                                        [](const StagePrediction& a, const StagePrediction& b) {
                                          return a.memory.total_bytes() < b.memory.total_bytes();
                                        });
  // A column a stage where they stay readable, else the fullest.
  constexpr std::size_t kMostColumns = 8;
  std::vector<const StagePrediction*> shown;
  if (p.stages.size() <= kMostColumns)
    for (const StagePrediction& s : p.stages) shown.push_back(&s);
  else
    shown.push_back(&*fullest);
  for (const StagePrediction* s : shown)
    rows[0].push_back(fmt::format("stage {}", s - p.stages.data()));
  for (const MemorySegment& s : fullest->memory.segments()) {
    rows.push_back({s.name});
    for (const StagePrediction* stage : shown)
      rows.back().push_back(human_bytes(segment(stage->memory, s.name)));
  }
  rows.push_back({"total"});
  for (const StagePrediction* stage : shown)
    rows.back().push_back(human_bytes(stage->memory.total_bytes()));
  if (fullest->libraries == 0) return format_table(rows);
  rows.push_back({"CUDA and NCCL"});
  for (const StagePrediction* stage : shown) rows.back().push_back(human_bytes(stage->libraries));
  rows.push_back({"of the GPU"});
  for (const StagePrediction* stage : shown)
    rows.back().push_back(human_bytes(stage->memory.total_bytes() + stage->libraries));
  return format_table(rows);
}

std::string link_table(const Prediction& p) {
  Rows rows = {{"traffic of a rank", "from stage", "to", "bytes a step", "time on the link", ""}};
  for (const LinkTraffic& l : p.links)
    rows.push_back({l.what, std::to_string(l.stage),
                    l.to_stage < 0 ? fmt::format("its {} replicas", p.topology.replicas)
                                   : fmt::format("stage {}", l.to_stage),
                    human_bytes(static_cast<std::int64_t>(l.bytes)), milliseconds(l.seconds),
                    l.between_nodes ? "between nodes" : "inside a node"});
  return rows.size() == 1 ? "" : format_table(rows);
}

std::string step_table(const Prediction& p, bool mfu) {
  const parallel::StepParts& t = p.parts;
  Rows rows = {{"predicted step", "time", "share"}};
  const auto add = [&](const char* what, double seconds) {
    rows.push_back({what, milliseconds(seconds), percent(seconds / p.step_seconds)});
  };
  add("clearing gradients", t.clear);
  add("computing, mean of the stages", t.computing);
  add("waiting in the pipeline, mean", t.waiting);
  add("gathering parameters, not hidden", t.gather);
  add("gradient sums after the backward", t.reduction);
  add("norms and agreement", t.agreement);
  add("AdamW", t.update);
  add("step", p.step_seconds);
  std::string text = format_table(rows);
  text += fmt::format("  {} tokens/s", with_commas(static_cast<std::int64_t>(p.tokens_per_second)));
  if (mfu) text += fmt::format(", MFU {:.3f}", p.mfu);
  if (p.shape.stages > 1)
    text += fmt::format(", bubble {} ({} if all stages cost the same and links were free)",
                        percent(p.bubble), percent(p.ideal_bubble));
  return text + fmt::format("\n  first bottleneck: {}\n", first_bottleneck(p));
}

std::string assumptions(const parallel::Machine& machine, const std::string& costs) {
  const parallel::MachineRates& r = machine.rates;
  return fmt::format(
      "assumed: {} ({}){}\n"
      "  {:.3g} TFLOP/s in full matrix products, {:.3g} TB/s of memory traffic, attention {:.3g} "
      "and {:.3g} TFLOP/s\n"
      "  {} ranks a node; {:.0f} GB/s and {:.1f} us inside a node, {:.1f} GB/s and {:.1f} us a "
      "rank between nodes; rings{}\n"
      "  computing and communication do not slow each other down; data is always there\n",
      r.name, r.source, costs.empty() ? "" : "; piece times measured: " + costs,
      1e-12 * r.matmul_bf16, 1e-12 * r.memory_bandwidth, 1e-12 * r.attention_forward,
      1e-12 * r.attention_backward, machine.ranks_a_node, 1e-9 * machine.inside.bandwidth,
      1e6 * machine.inside.latency, 1e-9 * machine.between.bandwidth, 1e6 * machine.between.latency,
      machine.message_bandwidth > 0 ? fmt::format("; messages of a pipeline up to {:.0f} GB/s",
                                                  1e-9 * machine.message_bandwidth)
                                    : "");
}

std::string search_table(const parallel::SearchResult& result, bool mfu) {
  Rows rows = {{"", "stages", "replicas", "schedule", "micro-batch", "micro-batches", "order",
                "step", "tokens/s", mfu ? "MFU" : "", "bubble", "memory"}};
  for (std::size_t i = 0; i < result.best.size(); ++i) {
    const Prediction& p = result.best[i];
    rows.push_back(
        {std::to_string(i + 1), std::to_string(p.shape.stages), std::to_string(p.topology.replicas),
         schedule_name(p), std::to_string(p.config.train.micro_batch),
         std::to_string(p.shape.micro_batches), order_name(p.topology.order),
         milliseconds(p.step_seconds), human_count(p.tokens_per_second),
         mfu ? fmt::format("{:.3f}", p.mfu) : "", percent(p.bubble), human_bytes(p.memory_bytes)});
  }
  return format_table(rows) +
         fmt::format("  {} layouts, {} of them too large for a rank's memory\n", result.layouts,
                     result.too_large);
}

OrderedJson to_json(const Prediction& p, bool mfu) {
  const parallel::StepParts& t = p.parts;
  OrderedJson json = {{"stages", p.shape.stages},
                      {"replicas", p.topology.replicas},
                      {"virtual_stages", p.shape.chunks},
                      {"schedule", schedule_value(p.shape.kind)},
                      {"order", order_name(p.topology.order)},
                      {"micro_batch", p.config.train.micro_batch},
                      {"micro_batches", p.shape.micro_batches},
                      {"overrides", layout_overrides(p)},
                      {"step_seconds", p.step_seconds},
                      {"tokens_per_second", p.tokens_per_second},
                      {"mfu", mfu ? OrderedJson(p.mfu) : OrderedJson()},
                      {"bubble", p.bubble},
                      {"ideal_bubble", p.ideal_bubble},
                      {"first_bottleneck", first_bottleneck(p)},
                      {"fits", p.fits},
                      {"memory_bytes_fullest", p.memory_bytes},
                      {"seconds",
                       {{"clear", t.clear},
                        {"computing", t.computing},
                        {"waiting", t.waiting},
                        {"gather", t.gather},
                        {"reduction", t.reduction},
                        {"agreement", t.agreement},
                        {"update", t.update}}}};
  json["stage"] = OrderedJson::array();
  for (const StagePrediction& s : p.stages) {
    OrderedJson ranges = OrderedJson::array(), memory = OrderedJson::object();
    for (const parallel::PieceRange r : s.ranges) ranges.push_back({r.begin, r.end});
    for (const MemorySegment& m : s.memory.segments()) memory[m.name] = m.bytes;
    json["stage"].push_back({{"pieces", ranges},
                             {"parameters", s.parameters},
                             {"forward_seconds", s.forward},
                             {"backward_seconds", s.backward},
                             {"memory_bytes", memory},
                             {"library_bytes", s.libraries}});
  }
  json["links"] = OrderedJson::array();
  for (const LinkTraffic& l : p.links)
    json["links"].push_back({{"what", l.what},
                             {"stage", l.stage},
                             {"to_stage", l.to_stage < 0 ? OrderedJson() : OrderedJson(l.to_stage)},
                             {"bytes", l.bytes},
                             {"seconds", l.seconds},
                             {"between_nodes", l.between_nodes}});
  return json;
}

OrderedJson to_json(const parallel::Machine& machine, const std::string& costs) {
  return {{"machine", machine.rates.name},
          {"rates", machine.rates.source},
          {"measured_pieces", costs.empty() ? OrderedJson() : OrderedJson(costs)},
          {"ranks_a_node", machine.ranks_a_node},
          {"inside_bytes_per_second", machine.inside.bandwidth},
          {"between_bytes_per_second", machine.between.bandwidth},
          {"message_bytes_per_second", machine.message_bandwidth}};
}

}  // namespace tessera::cli
