// What a run measures every eval.every steps, by all its ranks in any layout: the loss on
// validation data, and zero-shot tasks.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "comm/topology.h"
#include "config/config.h"
#include "data/token_source.h"
#include "data/tokenizer.h"
#include "eval/loss.h"
#include "eval/tasks.h"
#include "parallel/engine.h"
#include "train/metrics.h"

namespace tessera::train {

class Evaluation {
 public:
  // Error{config} on all ranks where eval.tasks names what there is not: a task, its file, a
  // tokenizer with the training data. `valid` may be null; everything outlives the object.
  Evaluation(const Config& config, data::TokenSource* valid, const std::string& tokenizer_json,
             parallel::Engine& engine, const comm::Topology& topology, comm::Communicator& ranks);

  // `at_micro_batch` is called before each forward pass with its number.
  std::optional<eval::LossResult> loss(const std::function<void(std::int64_t)>& at_micro_batch);
  std::vector<eval::TaskResult> tasks(const std::function<void(std::int64_t)>& at_micro_batch);

 private:
  eval::EvaluationShare share() const;

  const Config& config_;
  data::TokenSource* valid_;
  parallel::Engine& engine_;
  const comm::Topology& topology_;
  comm::Communicator& ranks_;
  std::vector<std::string> tasks_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
};

// Their lines in the log and in metrics.jsonl, by rank 0.
void report(const eval::LossResult& result, std::int64_t step, MetricsFile& metrics);
void report(const eval::TaskResult& result, std::int64_t step, MetricsFile& metrics);

}  // namespace tessera::train
