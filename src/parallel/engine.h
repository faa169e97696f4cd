// Trains one replica's copy of the model inside a data-parallel group: forward and backward over
// micro-batches, gradient reduction, agreement, AdamW on the owned slice, parameters back to all.
//
// One step, called alike on every rank:
//   zero_gradients(); accumulate(batch) x micro-batches; reduce_gradients();
//   agreement = agree(extras); update(...) unless the step is to be skipped
// Flat arrays (parameters, gradients) are padded so that every rank's slice has equal length.
#pragma once

#include <vector>

#include "comm/communicator.h"
#include "comm/topology.h"
#include "config/config.h"
#include "core/memory.h"
#include "model/stage.h"
#include "optim/adamw.h"

namespace tessera::parallel {

struct Agreement {
  double gradient_norm = 0;      // global, before clipping
  bool finite = true;            // gradients and all extras are finite on every rank
  std::int64_t bad_tensor = -1;  // first tensor with a non-finite gradient, or -1
  std::vector<double> sums;      // extras, summed over ranks
};

template <typename T>
class Engine {
 public:
  Engine(const Config& config, const comm::Topology& topology, comm::Communicator& replicas);

  void plan(MemoryPlan& plan);
  void bind(const Arena& arena);

  model::Stage<T>& stage() { return stage_; }
  const model::ParameterTable& table() const { return stage_.table(); }
  T* parameters() const { return parameters_; }
  T* gradients() const { return gradients_; }
  optim::AdamW<T>& optimizer() { return optimizer_; }
  // What this rank writes into a checkpoint: with ZeRO-1 what it owns; without, an equal share.
  const std::vector<optim::Segment>& written() const { return written_; }
  // Moments of one written segment.
  const T* moment_m(const optim::Segment& s) const;
  const T* moment_v(const optim::Segment& s) const;

  void zero_gradients();
  // Forward and backward of one micro-batch; returns the sum of its token losses (nats).
  // loss_weight = 1 / targets of the global batch.
  double accumulate(const model::MicroBatch& batch, double loss_weight);
  void reduce_gradients();
  // Global norm, finiteness and the sums of `extras` in one reduction.
  Agreement agree(std::vector<double> extras);
  // AdamW with `scale` on the gradients (clipping), then parameters from their owners.
  void update(std::int64_t step, double learning_rate, double scale);

 private:
  bool sharded() const { return zero_ && replicas_.size() > 1; }

  bool zero_;
  comm::Communicator& replicas_;
  model::Stage<T> stage_;
  std::int64_t padded_;
  optim::Slice mine_;
  optim::AdamW<T> optimizer_;
  std::vector<optim::Segment> written_;
  Buffer parameter_buffer_, gradient_buffer_;
  T *parameters_ = nullptr, *gradients_ = nullptr;
};

}  // namespace tessera::parallel
