// Trains one replica's copy of the model inside a data-parallel group: forward and backward over
// micro-batches, gradient reduction, agreement, AdamW on the owned slice, parameters back to all.
//
// One step, called alike on every rank:
//   begin_step(weight); accumulate(batch) x micro-batches; reduce_gradients();
//   agreement = agree(extras); update(...) unless the step is to be skipped
// On CUDA accumulate() only enqueues work; agree() waits for it.
//
// This is the interface; engines differ by device and by the type they compute in
// (parallel/replica_engine.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/topology.h"
#include "config/config.h"
#include "core/device.h"
#include "core/memory.h"
#include "model/stage.h"
#include "optim/ownership.h"

namespace tessera::parallel {

struct Agreement {
  double loss_sum = 0;           // nats over the global batch's targets
  double gradient_norm = 0;      // global, before clipping
  bool finite = true;            // loss, gradients and all extras are finite on every rank
  std::int64_t bad_tensor = -1;  // first tensor with a non-finite gradient, or -1
  std::vector<double> sums;      // extras, summed over ranks
};

// What a checkpoint holds of each parameter.
enum class State { parameter, m, v };

// Host pointers to state: element `flat` of the flat space is at (flat - begin).
struct StateView {
  const float *parameters = nullptr, *m = nullptr, *v = nullptr;
  std::int64_t parameters_begin = 0, moments_begin = 0;
};

// "layer 3", "layer 3 backward", "clear gradients", "gradient norms", "AdamW".
struct PartTime {
  std::string part;
  double milliseconds = 0;
};

struct EngineOptions {
  bool graphs = true;  // CUDA: replay captured micro-batches
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual void plan(MemoryPlan& plan) = 0;
  // Arena of the planned memory on device(). Parameters are zero until initialise() or restore().
  virtual void bind(const Arena& arena) = 0;
  virtual Device device() const = 0;
  virtual const model::ParameterTable& table() const = 0;
  virtual const ModelConfig& model() const = 0;
  virtual std::int64_t sequences() const = 0;  // a micro-batch

  // State, in host memory.
  virtual void initialise(std::uint64_t seed) = 0;
  // What this rank writes into a checkpoint: with ZeRO-1 what it owns; without, an equal share.
  virtual const std::vector<optim::Segment>& written() const = 0;
  // What this rank keeps moments of.
  virtual const std::vector<optim::Segment>& owned() const = 0;
  // Covers written(); on CUDA copied now, valid until the next call.
  virtual StateView snapshot() = 0;
  // Sets flat elements; parameters anywhere, moments inside owned() segments.
  virtual void restore(State state, std::int64_t flat, std::int64_t count, const float* values) = 0;
  // After the last restore(): brings working copies of the parameters up to date.
  virtual void finish_restore() = 0;
  // Gradients of the last accumulated step in host memory, flat; for tests.
  virtual std::vector<float> gradients() = 0;

  // CUDA: measured choices (kernels/algorithms.h). `recorded` is "" or their JSON text from an
  // earlier run of the same device and library, which is kept to. tune() runs a micro-batch so that
  // shapes without a choice are measured; before the first step. Both do nothing on the CPU.
  virtual void use_algorithms(const std::string& recorded, const std::string& where) = 0;
  virtual void tune() = 0;
  virtual std::string algorithms() const = 0;  // JSON text; "" on the CPU

  // loss_weight = 1 / targets of the global batch.
  virtual void begin_step(double loss_weight) = 0;
  // Forward and backward of one micro-batch (host memory, may be reused at once).
  virtual void accumulate(const model::MicroBatch& batch) = 0;
  virtual void reduce_gradients() = 0;
  // Global loss and norm, finiteness and the sums of `extras` in one reduction.
  virtual Agreement agree(std::vector<double> extras) = 0;
  // AdamW with `scale` on the gradients (clipping), then parameters from their owners.
  virtual void update(std::int64_t step, double learning_rate, double scale) = 0;
  // Waits for everything enqueued.
  virtual void synchronize() = 0;

  // Sum of token losses (nats) of a batch of up to sequences() (host memory), without gradients.
  virtual double loss(const model::MicroBatch& batch) = 0;

  // For measurements: forward and backward of one micro-batch (host memory) piece by piece, not
  // captured, in order; then gradient norms and an update by nothing. Gradients are undefined
  // after.
  virtual std::vector<PartTime> time_parts(const model::MicroBatch& batch) = 0;
};

// `device` and `precision` as resolved (never automatic). Error{config} for combinations that this
// version does not train.
std::unique_ptr<Engine> make_engine(const Config& config, Device device,
                                    const comm::Topology& topology, comm::Communicator& replicas,
                                    const EngineOptions& options = {});

}  // namespace tessera::parallel
