#include "parallel/loss_model.h"

#include "model/architecture.h"
#include "model/stage.h"
#include "parallel/device_context.h"
#include "parallel/device_weights.h"

namespace tessera::parallel {
namespace {

template <typename T>
class DeviceLossModel : public LossModel {
 public:
  DeviceLossModel(const ModelConfig& config, Device device, std::int64_t sequences,
                  const float* parameters, const model::ModelOptions& options)
      : context_(device), stage_(config, sequences, 1, options, context_.queue()) {
    const std::int64_t size = stage_.table().flat_size();
    MemoryPlan plan;
    weights_.plan(plan, device, size);
    stage_.plan(plan);
    rows_ = model::targets_a_sample(config);
    score_memory_.plan(plan, sequences * rows_);
    inputs_ = plan.reserve<std::int32_t>("inputs", 2 * sequences * config.context);
    sum_ = plan.reserve<double>("constants", 1);
    context_.plan(plan, stage_.workspace_bytes());
    arena_ = std::make_unique<Arena>(plan, device);
    context_.bind(*arena_);
    stage_.set_queue(context_.queue());
    stage_.bind(*arena_, weights_.fill(context_.queue(), *arena_, parameters), nullptr);
    scores_ = score_memory_.bind(context_.queue(), *arena_);
  }

  double loss(const model::MicroBatch& batch) override {
    stage_.set_scores({});
    return run(batch);
  }
  model::HostScores score(const model::MicroBatch& batch) override {
    stage_.set_scores(scores_);
    run(batch);
    return score_memory_.bring(batch.sequences * rows_);
  }

 private:
  double run(const model::MicroBatch& batch) {
    const kernels::Queue& queue = context_.queue();
    const std::int64_t tokens = batch.sequences * stage_.config().context;
    auto* ids = arena_->at<std::int32_t>(inputs_);
    auto* targets = ids + stage_.sequences() * stage_.config().context;
    const auto bytes = tokens * static_cast<std::int64_t>(sizeof(std::int32_t));
    upload(queue.device, ids, batch.ids, bytes, queue.stream);
    upload(queue.device, targets, batch.targets, bytes, queue.stream);
    auto* sum = arena_->at<double>(sum_);
    zero_memory(queue.device, sum, sizeof(double), queue.stream);
    stage_.forward(0, {batch.sequences, ids, targets}, model::HeadMode::loss, nullptr, sum);
    double result = 0;
    download(queue.device, &result, sum, sizeof(double), queue.stream);
    return result;
  }

  DeviceContext context_;
  model::Stage<T> stage_;
  std::unique_ptr<Arena> arena_;
  DeviceWeights<T> weights_;
  model::ScoreMemory<T> score_memory_;
  model::RowScores<T> scores_;
  std::int64_t rows_ = 0;  // predicting ones of a sequence
  Buffer inputs_, sum_;
};

}  // namespace

std::unique_ptr<LossModel> make_loss_model(const ModelConfig& config, Device device,
                                           Precision precision, std::int64_t sequences,
                                           const float* parameters,
                                           const model::ModelOptions& options) {
#ifdef TESSERA_HAS_CUDA
  if (device == Device::cuda && precision == Precision::bf16)
    return std::make_unique<DeviceLossModel<kernels::bf16>>(config, device, sequences, parameters,
                                                            options);
#endif
  TESSERA_CHECK(precision == Precision::fp32);
  return std::make_unique<DeviceLossModel<float>>(config, device, sequences, parameters, options);
}

}  // namespace tessera::parallel
