// The engine of a rank that holds the whole model, in type T on one device: float on the CPU, float
// or bf16 on CUDA. bf16 engines keep fp32 masters beside the working parameters.
#pragma once

#include <memory>

#include "core/device_memory.h"
#include "optim/adamw.h"
#include "parallel/device_context.h"
#include "parallel/engine.h"

namespace tessera::parallel {

template <typename T>
class ReplicaEngine : public Engine {
 public:
  ReplicaEngine(const Config& config, Device device, const comm::Topology& topology,
                comm::Communicator& replicas, const EngineOptions& options);

  void plan(MemoryPlan& plan) override;
  void bind(const Arena& arena) override;
  Device device() const override { return queue().device; }
  const model::ParameterTable& table() const override { return stage_.table(); }
  const ModelConfig& model() const override { return stage_.config(); }
  std::int64_t sequences() const override { return stage_.sequences(); }

  void initialise(std::uint64_t seed) override;
  const std::vector<optim::Segment>& written() const override { return written_; }
  const std::vector<optim::Segment>& owned() const override { return optimizer_.owned(); }
  StateView snapshot() override;
  void restore(State state, std::int64_t flat, std::int64_t count, const float* values) override;
  void finish_restore() override;
  std::vector<float> gradients() override;

  void use_algorithms(const std::string& recorded, const std::string& where) override;
  void tune() override;
  std::string algorithms() const override;

  void begin_step(double loss_weight) override;
  void accumulate(const model::MicroBatch& batch) override;
  void reduce_gradients() override;
  Agreement agree(std::vector<double> extras) override;
  void update(std::int64_t step, double learning_rate, double scale) override;
  void synchronize() override { context_.stream().synchronize(); }
  double loss(const model::MicroBatch& batch) override;
  std::vector<PartTime> time_parts(const model::MicroBatch& batch) override;

  // For tests: logits of a batch (host memory) as Stage::logits, and the gradients, flat, in the
  // queue's memory.
  std::vector<T> logits(const model::MicroBatch& batch) {
    return stage_.logits(take(inputs_[0], batch));
  }
  kernels::Wide<T>* device_gradients() { return gradients_; }

 private:
  using Wide = kernels::Wide<T>;
  static constexpr bool kHasMasters = !std::is_same_v<T, Wide>;

  // Ids and targets of one micro-batch of a step: host copy and its place in the queue's memory.
  struct Input {
    Buffer buffer;
    HostMemory host;
    std::unique_ptr<DeviceGraph> graph;
  };
  const kernels::Queue& queue() const { return context_.queue(); }
  bool sharded() const { return zero_ && replicas_.size() > 1; }
  // Brings a micro-batch (host memory) into the queue's memory.
  model::MicroBatch take(Input& input, const model::MicroBatch& batch);
  void run(const model::MicroBatch& batch, bool first);
  // Masters to the working copy.
  void refresh_working();

  bool zero_, graphs_;
  comm::Communicator& replicas_;
  DeviceContext context_;
  model::Stage<T> stage_;
  std::int64_t padded_, micro_batches_;
  optim::Slice mine_;
  optim::AdamW<T> optimizer_;
  std::vector<optim::Segment> written_;

  Buffer master_buffer_, working_buffer_, gradient_buffer_, scalar_buffer_;
  const Arena* arena_ = nullptr;
  Wide *masters_ = nullptr, *gradients_ = nullptr;
  T* working_ = nullptr;  // what the stage computes with; the masters themselves where T is Wide
  Wide* loss_weight_ = nullptr;
  double* loss_sum_ = nullptr;
  double weight_now_ = 0;
  std::vector<Input> inputs_;  // one a micro-batch of a step
  std::int64_t next_input_ = 0;
  HostMemory sums_;                                  // loss and norms, brought from the device
  std::vector<std::vector<float>> copies_of_state_;  // CUDA: masters, m, v of the last snapshot
};

}  // namespace tessera::parallel
