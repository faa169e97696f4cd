// A model with given parameters that only says what its loss is, on either device: evaluation
// outside training.
#pragma once

#include <memory>

#include "config/config.h"
#include "core/device.h"
#include "model/layer.h"
#include "model/piece.h"

namespace tessera::parallel {

class LossModel {
 public:
  virtual ~LossModel() = default;
  // Sum of token losses (nats) of up to `sequences` samples in host memory.
  virtual double loss(const model::MicroBatch& batch) = 0;
  // Of every predicting row: [sequences, targets_a_sample], row r of a sequence predicts its token
  // first_target + r.
  virtual model::HostScores score(const model::MicroBatch& batch) = 0;
};

// `parameters` [flat_size of the model's table], copied on CUDA and used in place on the CPU (so
// they must outlive the object). bf16 on CUDA alone; `options.padding` where batches hold any.
// Error{device} when it does not fit.
std::unique_ptr<LossModel> make_loss_model(const ModelConfig& config, Device device,
                                           Precision precision, std::int64_t sequences,
                                           const float* parameters,
                                           const model::ModelOptions& options = {});

}  // namespace tessera::parallel
