#include "train/saver.h"

#include <spdlog/spdlog.h>

#include "core/error.h"
#include "core/text.h"
#include "train/load.h"

namespace tessera::train {
namespace {

double seconds_between(std::chrono::steady_clock::time_point a,
                       std::chrono::steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

OrderedJson to_json(const std::vector<data::SourceUse>& uses) {
  OrderedJson list = OrderedJson::array();
  for (const data::SourceUse& use : uses)
    list.push_back({{"path", use.path}, {"samples", use.samples}, {"epochs", use.epochs()}});
  return list;
}

}  // namespace

Saver::Saver(const SaverParts& parts, std::string folder, std::string path, std::int64_t step)
    : parts_(parts),
      folder_(std::move(folder)),
      path_(std::move(path)),
      step_(step),
      background_(FileSystem::posix(), parts.ranks) {
  const std::int64_t bytes = parts_.engine.reserve_snapshot();
  spdlog::debug("{} of host memory for copies of the state", human_bytes(bytes));
}

void Saver::save(const checkpoints::TrainingState& state, const std::string& tokenizer_json) {
  if (step_ == state.step || (background_.in_flight() && begun_step_ == state.step)) return;
  parts_.watch.post(comm::Section::checkpoint, state.step);
  parts_.watch.post_collective("checkpoint");
  finish(state.step);
  begun_ = Clock::now();
  begun_step_ = state.step;
  // Parameters and both moments in fp32, and the small files.
  const std::int64_t bytes = 3 * parts_.engine.table().total() * 4 + (1 << 20);
  if (const std::string reason = background_.prepare(folder_, state.step, bytes); !reason.empty()) {
    failed(state.step, reason);
    return;
  }
  checkpoints::SaveRequest request{folder_,
                                   state,
                                   tensor_infos(parts_.engine.table()),
                                   {},
                                   tokenizer_json,
                                   parts_.config.checkpoint.keep,
                                   parts_.config.checkpoint.keep_every};
  const std::vector<parallel::SegmentState> states = parts_.engine.snapshot();
  for (std::size_t i = 0; i < states.size(); ++i) {
    const optim::Segment& s = parts_.engine.written()[i];
    request.slices.push_back(
        {s.tensor, s.begin, s.end, states[i].parameters, states[i].m, states[i].v});
  }
  background_.begin(std::move(request));
  staged_ = seconds_between(begun_, Clock::now());
}

double Saver::ready() {
  if (!background_.in_flight()) return 0;
  if (!background_.ready() &&
      seconds_between(begun_, Clock::now()) > parts_.config.watchdog.checkpoint_seconds) {
    // Storage that does not answer becomes the watchdog's: from here on its limit runs.
    spdlog::warn("the checkpoint of step {} takes longer than watchdog.checkpoint_seconds: waiting",
                 begun_step_);
    parts_.watch.post(comm::Section::checkpoint, begun_step_);
    background_.block();
  }
  return background_.ready() ? 1 : 0;
}

void Saver::advance(double ready_ranks, std::int64_t step) {
  if (!background_.in_flight() || ready_ranks < static_cast<double>(parts_.ranks.size())) return;
  parts_.watch.post_collective("checkpoint written");
  if (const auto result = background_.advance()) close(*result, step);
}

void Saver::finish(std::int64_t step) {
  if (!background_.in_flight()) return;
  parts_.watch.post(comm::Section::checkpoint, step);
  parts_.watch.post_collective("checkpoint written");
  const auto start = Clock::now();
  const std::int64_t saved = begun_step_;
  const checkpoints::SaveResult result = background_.wait();
  if (parts_.metrics && saved < step)
    spdlog::info("waited {} for the checkpoint of step {}",
                 human_duration(seconds_between(start, Clock::now())), saved);
  close(result, step);
}

void Saver::close(const checkpoints::SaveResult& result, std::int64_t step) {
  if (!result.failure.empty()) {
    failed(result.step, result.failure);
    return;
  }
  bad_saves_ = 0;
  path_ = result.path;
  step_ = result.step;
  if (!parts_.metrics) return;
  parts_.progress.clear();
  const double durable = seconds_between(begun_, Clock::now());
  spdlog::info("saved {} in {} (training stood still for {})", path_, human_duration(durable),
               human_duration(staged_));
  if (!result.warning.empty()) spdlog::warn("old checkpoints: {}", result.warning);
  parts_.metrics->write(
      "checkpoint",
      {{"step", step_},
       {"path", path_},
       {"staged", staged_},
       {"durable", durable},
       {"durable_at_step", step},
       {"data", to_json(parts_.source.used(step_ * parts_.config.train.global_batch))}});
}

void Saver::failed(std::int64_t step, const std::string& reason) {
  ++bad_saves_;
  if (parts_.metrics) parts_.metrics->write("checkpoint", {{"step", step}, {"failed", reason}});
  if (bad_saves_ >= kMostBadSaves)
    throw Error(Category::io, "the checkpoint of step " + std::to_string(step) + " failed, like " +
                                  std::to_string(bad_saves_ - 1) + " before it: " + reason +
                                  "; the newest complete one is " +
                                  (path_.empty() ? "none" : path_));
  if (!parts_.metrics) return;
  parts_.progress.clear();
  spdlog::error("checkpoint of step {} failed, training goes on: {}", step, reason);
}

}  // namespace tessera::train
