#include "train/evaluation.h"

#include <spdlog/spdlog.h>

#include "core/error.h"
#include "core/progress.h"
#include "core/text.h"

namespace tessera::train {
namespace {

// Samples of the run's context through the engine as it stands.
class EngineScorer : public eval::Scorer {
 public:
  EngineScorer(parallel::Engine& engine, const std::function<void(std::int64_t)>& at_micro_batch)
      : engine_(engine), at_micro_batch_(at_micro_batch), lengths_{engine.model().context} {}
  const std::vector<std::int64_t>& lengths() const override { return lengths_; }
  std::int64_t sequences(std::int64_t) const override { return engine_.sequences(); }
  model::HostScores score(std::int64_t, const model::MicroBatch& batch) override {
    at_micro_batch_(++micro_batch_);
    return engine_.score(batch);
  }

 private:
  parallel::Engine& engine_;
  const std::function<void(std::int64_t)>& at_micro_batch_;
  std::vector<std::int64_t> lengths_;
  std::int64_t micro_batch_ = 0;
};

}  // namespace

Evaluation::Evaluation(const Config& config, data::TokenSource* valid,
                       const std::string& tokenizer_json, parallel::Engine& engine,
                       const comm::Topology& topology, comm::Communicator& ranks)
    : config_(config),
      valid_(valid),
      engine_(engine),
      topology_(topology),
      ranks_(ranks),
      tasks_(eval::checked_tasks(config.eval.tasks)) {
  if (tasks_.empty()) return;
  if (config.eval.task_data.empty())
    throw Error(Category::config,
                "eval.tasks needs eval.task_data, the folder with the tasks' files");
  eval::require_task_files(config.eval.task_data, tasks_);
  if (tokenizer_json.empty())
    throw Error(Category::config,
                "eval.tasks: the training data has no tokenizer (its shards were imported as ids)");
  tokenizer_ = data::parse_tokenizer(tokenizer_json, "the training data's tokenizer.json");
}

eval::EvaluationShare Evaluation::share() const {
  return {topology_.replica, topology_.replicas, engine_.holds_head()};
}

std::optional<eval::LossResult> Evaluation::loss(
    const std::function<void(std::int64_t)>& at_micro_batch) {
  if (!valid_) return std::nullopt;
  std::int64_t micro_batch = 0;
  return eval::evaluate_loss(
      config_.model, config_.train.micro_batch,
      [&](const model::MicroBatch& batch) {
        at_micro_batch(++micro_batch);
        return engine_.loss(batch);
      },
      *valid_, ranks_, share(), config_.eval.batches * config_.train.global_batch);
}

std::vector<eval::TaskResult> Evaluation::tasks(
    const std::function<void(std::int64_t)>& at_micro_batch) {
  std::vector<eval::TaskResult> results;
  if (tasks_.empty()) return results;
  EngineScorer scorer(engine_, at_micro_batch);
  const eval::BlockPadding padding =
      config_.data.padding != Padding::none ? eval::BlockPadding::pad : eval::BlockPadding::no_pad;
  const eval::Encoding encoding = eval::encoding_of(*tokenizer_);
  const eval::Windows windows = eval::text_windows(config_.model, padding, config_.model.context);
  for (const std::string& task : tasks_)
    results.push_back(
        eval::run_task(task, config_.eval.task_data, config_.eval.task_items, encoding, windows,
                       [&](const std::vector<eval::Request>& requests) {
                         return eval::log_likelihoods(config_.model, scorer, requests, padding,
                                                      encoding.end_of_text, ranks_, share());
                       }));
  return results;
}

void report(const eval::LossResult& r, std::int64_t step, MetricsFile& metrics) {
  spdlog::info(
      "validation at step {}: loss {:.4f}, perplexity {:.2f}, {:.4f} bits/byte ({} tokens, "
      "{})",
      step, r.loss, r.perplexity, r.bits_per_byte, with_commas(r.targets),
      human_duration(r.seconds));
  metrics.write("eval", {{"step", step},
                         {"loss", r.loss},
                         {"perplexity", r.perplexity},
                         {"bits_per_byte", r.bits_per_byte},
                         {"targets", r.targets},
                         {"bytes", r.bytes},
                         {"seconds", r.seconds}});
}

void report(const eval::TaskResult& r, std::int64_t step, MetricsFile& metrics) {
  OrderedJson json = {{"step", step}, {"task", r.task}, {"items", r.items}};
  std::string text;
  for (const eval::TaskMetric& m : r.metrics) {
    json[m.name] = m.value;
    if (m.deviation >= 0) json[m.name + "_stderr"] = m.deviation;
    text += fmt::format("{}{} {:.4g}", text.empty() ? "" : ", ", m.name, m.value);
    if (m.deviation >= 0) text += fmt::format(" +- {:.2g}", m.deviation);
  }
  spdlog::info("{} at step {}: {} ({} items)", r.task, step, text, with_commas(r.items));
  metrics.write("eval", json);
}

}  // namespace tessera::train
