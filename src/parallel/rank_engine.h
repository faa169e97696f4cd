// The engine of one rank: its stages of the pipeline in type T on one device (float on the CPU,
// float or bf16 on CUDA), its share of the optimizer, and what it exchanges with other ranks.
#pragma once

#include <memory>
#include <optional>

#include "core/device_memory.h"
#include "optim/adamw.h"
#include "parallel/device_context.h"
#include "parallel/engine.h"
#include "parallel/gradient_sync.h"
#include "parallel/pipeline_runner.h"

namespace tessera::parallel {

// The schedule that a configuration asks for.
ScheduleShape schedule_shape(const Config& config, const comm::Topology& topology);

template <typename T>
class RankEngine : public Engine {
 public:
  // `world`: all ranks of the job, which call this together; outlives the engine.
  RankEngine(const Config& config, Device device, const comm::Topology& topology,
             comm::Communicator& world, const EngineOptions& options);

  void plan(MemoryPlan& plan) override;
  void bind(const Arena& arena) override;
  Device device() const override { return queue().device; }
  const model::ParameterTable& table() const override { return whole_; }
  const model::ParameterTable& local_table() const override { return local_; }
  const ModelConfig& model() const override { return model_; }
  std::int64_t sequences() const override { return sequences_; }
  bool holds_head() const override { return runner_->holds_head(); }

  void initialise(std::uint64_t seed) override;
  const std::vector<optim::Segment>& written() const override { return written_; }
  const std::vector<optim::Segment>& owned() const override { return owned_; }
  std::vector<SegmentState> snapshot() override;
  std::int64_t reserve_snapshot() override;
  void restore(State state, std::int64_t flat, std::int64_t count, const float* values) override;
  void finish_restore() override { synchronize(); }
  std::vector<float> gradients() override;
  std::vector<float> parameters() override;
  std::vector<std::uint64_t> parameter_hashes() override;

  void use_algorithms(const std::string& recorded, const std::string& where) override;
  void tune() override;
  std::string algorithms() const override;

  void begin_step(double loss_weight) override;
  void accumulate(const model::MicroBatch& batch) override;
  void reduce_gradients() override { sync_->finish(context_.stream()); }
  Agreement agree(std::vector<double> extras) override;
  void update(std::int64_t step, double learning_rate, double scale) override;
  void synchronize() override;
  double loss(const model::MicroBatch& batch) override;
  model::HostScores score(const model::MicroBatch& batch) override;
  std::vector<PartTime> time_parts(const model::MicroBatch& batch) override;
  void abort() noexcept override;

  // For tests: logits of a batch (host memory) as Stage::logits (one rank holding the whole model),
  // and the gradients, flat, in the queue's memory.
  std::vector<T> logits(const model::MicroBatch& batch) {
    wait_for_parameters();
    return runner_->chunks().front()->logits(take(inputs_[0], batch));
  }
  kernels::Wide<T>* device_gradients() { return gradients_; }

 private:
  using Wide = kernels::Wide<T>;

  // Ids and targets of one micro-batch of a step: host copy and its place in the queue's memory.
  struct Input {
    Buffer buffer;
    HostMemory host;
  };
  const kernels::Queue& queue() const { return context_.queue(); }
  bool sharded() const { return zero_ && sync_->active(); }
  // Ahead of which piece which bucket of parameters is needed, behind which one which bucket of
  // gradients is final.
  void plan_cuts();
  // For all that reads or writes parameters but the forwards of a step, which wait piece by piece.
  void wait_for_parameters() { sync_->wait_for_parameters(context_.stream()); }
  // Brings a micro-batch (host memory) into the queue's memory.
  model::MicroBatch take(Input& input, const model::MicroBatch& batch);
  void clear_gradients();
  // One micro-batch of zeros through this rank's chunks, nothing sent.
  void rehearse();
  StepTarget<T> target() const { return {loss_weight_, loss_sum_}; }
  std::vector<optim::Segment> in_whole(std::vector<optim::Segment> segments) const;

  ModelConfig model_;
  bool zero_;
  std::int64_t sequences_, replica_;
  comm::Communicator& world_;
  DeviceContext context_;
  std::unique_ptr<comm::Communicator> replicas_, pipeline_;
  std::unique_ptr<PipelineRunner<T>> runner_;
  model::ParameterTable whole_, local_;
  std::vector<std::int64_t> bases_;        // of each chunk in the flat space
  std::vector<std::int64_t> whole_index_;  // of a local tensor
  std::unique_ptr<GradientSync<T>> sync_;
  std::unique_ptr<optim::AdamW<T>> optimizer_;
  std::vector<optim::Segment> written_, owned_;

  Buffer parameter_buffer_, gradient_buffer_, scalar_buffer_;
  const Arena* arena_ = nullptr;
  T* parameters_ = nullptr;  // what the stages compute with
  Wide* gradients_ = nullptr;
  Wide* loss_weight_ = nullptr;
  double* loss_sum_ = nullptr;
  double weight_now_ = 0;
  std::vector<Input> inputs_;
  std::size_t next_input_ = 0;
  bool scored_ = false;  // the plan has room for scores
  model::ScoreMemory<T> score_memory_;
  model::RowScores<T> scores_;
  bool rehearsed_ = false;          // every kernel of a step has run once
  HostMemory sums_;                 // loss and norms, brought from the device
  std::optional<HostMemory> kept_;  // the last snapshot: parameters, m and v of written_
};

}  // namespace tessera::parallel
