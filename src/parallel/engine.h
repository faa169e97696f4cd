// Trains one rank's part of the model: forward and backward of its pipeline stages over
// micro-batches, gradients summed over replicas, agreement, AdamW on what it owns, parameters back
// to all behind the next forward (docs/parallel.md).
//
// One step, called alike on every rank:
//   begin_step(weight); accumulate(batch) x micro-batches; reduce_gradients();
//   agreement = agree(extras); update(...) unless the step is to be skipped
// On CUDA accumulate() only enqueues work; agree() waits for it.
//
// This is the interface; engines differ by device and by the type they compute in
// (parallel/rank_engine.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/topology.h"
#include "comm/transport.h"
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

// Host pointers to the state of a segment, as many elements as it has.
struct SegmentState {
  const float *parameters = nullptr, *m = nullptr, *v = nullptr;
};

// "layer 3", "layer 3 backward", "clear gradients", "gradient norms", "AdamW".
struct PartTime {
  std::string part;
  double milliseconds = 0;
};

struct EngineOptions {
  bool graphs = true;                // CUDA: replay captured instructions
  bool staged = false;               // CUDA: exchange through host memory and MPI instead of NCCL
  std::int64_t bucket_elements = 0;  // 0 = as configured
  // For tests: what is put around the transport that joins the replicas of a stage.
  std::function<std::unique_ptr<comm::Transport>(std::unique_ptr<comm::Transport>)>
      around_replicas{};
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual void plan(MemoryPlan& plan) = 0;
  // Arena of the planned memory on device(). Parameters are zero until initialise() or restore().
  virtual void bind(const Arena& arena) = 0;
  virtual Device device() const = 0;
  // Of the whole model, and of what this rank's stages hold (its flat space is this rank's).
  virtual const model::ParameterTable& table() const = 0;
  virtual const model::ParameterTable& local_table() const = 0;
  virtual const ModelConfig& model() const = 0;
  virtual std::int64_t sequences() const = 0;  // a micro-batch
  // Losses come from the ranks that hold the head: one in every replica.
  virtual bool holds_head() const = 0;

  // State, in host memory.
  virtual void initialise(std::uint64_t seed) = 0;
  // What this rank writes into a checkpoint: with ZeRO-1 what it owns; without, an equal share.
  // Tensors are indices of table(), offsets of this rank's flat space.
  virtual const std::vector<optim::Segment>& written() const = 0;
  // What this rank keeps moments of.
  virtual const std::vector<optim::Segment>& owned() const = 0;
  // Of written(), in its order: a copy of now, in host memory that stays as it is until the next
  // call (on CUDA page-locked). reserve_snapshot() allocates that memory ahead of the first call
  // and returns its bytes.
  virtual std::vector<SegmentState> snapshot() = 0;
  virtual std::int64_t reserve_snapshot() = 0;
  // Sets flat elements; parameters anywhere, moments inside owned() segments.
  virtual void restore(State state, std::int64_t flat, std::int64_t count, const float* values) = 0;
  // After the last restore(): brings working copies of the parameters up to date.
  virtual void finish_restore() = 0;
  // Gradients of the last accumulated step, and parameters as computed with, in host memory, flat;
  // for tests.
  virtual std::vector<float> gradients() = 0;
  virtual std::vector<float> parameters() = 0;
  // A hash of each local tensor as computed with: equal on all replicas of a stage.
  virtual std::vector<std::uint64_t> parameter_hashes() = 0;

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
  // Behind the last micro-batch: waits (on CUDA: enqueues waiting) for the sums over replicas.
  virtual void reduce_gradients() = 0;
  // Global loss and norm, finiteness and the sums of `extras` in one reduction.
  virtual Agreement agree(std::vector<double> extras) = 0;
  // AdamW with `scale` on the gradients (clipping), then parameters from their owners, which may
  // still be on their way when the next step begins: whatever reads them waits.
  virtual void update(std::int64_t step, double learning_rate, double scale) = 0;
  // Waits for everything enqueued, parameters on their way included.
  virtual void synchronize() = 0;

  // Sum of token losses (nats) of a batch of up to sequences() (host memory), without gradients; 0
  // where the head is elsewhere. All ranks of a pipeline call it for the same batches.
  virtual double loss(const model::MicroBatch& batch) = 0;
  // The same with what the head finds for each predicting row (LossModel::score); empty where the
  // head is elsewhere. For runs with eval.tasks.
  virtual model::HostScores score(const model::MicroBatch& batch) = 0;

  // For measurements: forward and backward of one micro-batch (host memory) piece by piece, not
  // captured, in order; then gradient norms and an update by nothing. Gradients are undefined
  // after.
  virtual std::vector<PartTime> time_parts(const model::MicroBatch& batch) = 0;

  // Ends communication, from any thread.
  virtual void abort() noexcept = 0;
};

// `device` and `precision` as resolved (never automatic). All ranks of `world` call it together; a
// world of one plans for any topology, but trains only where that has one rank.
std::unique_ptr<Engine> make_engine(const Config& config, Device device,
                                    const comm::Topology& topology, comm::Communicator& world,
                                    const EngineOptions& options = {});

}  // namespace tessera::parallel
