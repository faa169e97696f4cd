#include "parallel/loss_model.h"

#include "kernels/cast.h"
#include "model/stage.h"
#include "parallel/device_context.h"

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
    const bool copied = device == Device::cuda;
    const Buffer parameter_buffer = plan.reserve<T>("parameters", copied ? size : 0);
    const Buffer masters = plan.reserve<float>("parameters", copied ? size : 0);
    stage_.plan(plan);
    inputs_ = plan.reserve<std::int32_t>("inputs", 2 * sequences * config.context);
    sum_ = plan.reserve<double>("constants", 1);
    context_.plan(plan, stage_.workspace_bytes());
    arena_ = std::make_unique<Arena>(plan, device);
    context_.bind(*arena_);
    stage_.set_queue(context_.queue());
    const T* weights = nullptr;
    if constexpr (std::is_same_v<T, float>) {
      weights = copied ? arena_->at<float>(masters) : parameters;
      if (copied) upload_masters(masters, parameters, size);
    } else {
      upload_masters(masters, parameters, size);
      weights = arena_->at<T>(parameter_buffer);
      kernels::cast_to_bf16(context_.queue(), {size, arena_->at<float>(masters),
                                               arena_->at<std::uint16_t>(parameter_buffer)});
    }
    stage_.bind(*arena_, weights, nullptr);
  }

  double loss(const model::MicroBatch& batch) override {
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

 private:
  void upload_masters(const Buffer& buffer, const float* parameters, std::int64_t size) {
    upload(context_.queue().device, arena_->at<float>(buffer), parameters,
           size * static_cast<std::int64_t>(sizeof(float)), context_.queue().stream);
  }

  DeviceContext context_;
  model::Stage<T> stage_;
  std::unique_ptr<Arena> arena_;
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
