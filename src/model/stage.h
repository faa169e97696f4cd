// A run of pieces with its memory: what one rank computes. One stage is a whole model today; a
// pipeline stage is the same class over fewer pieces.
//
// plan() reserves everything in the caller's MemoryPlan, bind() points into the Arena made from it;
// after that nothing allocates. A slot holds one micro-batch between its forward and its backward.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "model/architecture.h"
#include "model/head.h"
#include "model/piece.h"

namespace tessera::model {

template <typename T>
class Stage {
 public:
  // All pieces of the model, for micro-batches of up to `sequences`.
  Stage(const ModelConfig& config, std::int64_t sequences, std::int64_t slots,
        const ModelOptions& options = {}, kernels::Queue queue = {});

  const ModelConfig& config() const { return config_; }
  const ParameterTable& table() const { return table_; }
  std::int64_t sequences() const { return sequences_; }

  void plan(MemoryPlan& plan);
  // `flat_size` elements each, in the queue's memory; gradients may be null when only losses are
  // asked for. `queue` has its workspace (workspace_bytes() at least) from here on.
  void bind(const Arena& arena, const T* parameters, Wide<T>* gradients);
  void set_queue(const kernels::Queue& queue) { queue_ = queue; }
  // What the operations of this stage need of Queue::workspace.
  std::int64_t workspace_bytes() const;

  // Runs a micro-batch forward through `slot`; with HeadMode::train the head also computes its
  // gradients, scaled by *loss_weight. Adds the sum of token losses (nats) to *loss_sum. All
  // pointers are in the queue's memory.
  void forward(std::int64_t slot, const MicroBatch& batch, HeadMode mode,
               const Wide<T>* loss_weight, double* loss_sum);
  // Back through the micro-batch that `slot` holds; adds to the gradients.
  void backward(std::int64_t slot);

  // Called with a piece's number and "forward" or "backward" behind each; for measurements.
  using Probe = std::function<void(std::size_t piece, bool backward)>;
  void set_probe(Probe probe) { probe_ = std::move(probe); }

  // Logits of every predicting row of `batch`, [rows, vocab] (rows as in Head::predicting_rows), in
  // host memory.
  std::vector<T> logits(const MicroBatch& batch);

  // Multiply-adds of a sequence's forward pass.
  double multiply_adds() const;
  const std::vector<std::unique_ptr<Piece<T>>>& pieces() const { return pieces_; }

 private:
  Pass<T> pass(std::int64_t slot);
  T* boundary(std::int64_t slot, std::size_t piece);

  ModelConfig config_;
  std::int64_t sequences_, slots_;
  kernels::Queue queue_;
  ParameterTable table_;
  std::vector<std::unique_ptr<Piece<T>>> pieces_;

  MemoryPlan slot_plan_;             // layout of one slot
  std::vector<Buffer> boundaries_;   // within a slot, behind each piece but the head
  std::vector<Buffer> slot_memory_;  // one a slot
  Buffer scratch_, gradient_a_, gradient_b_;
  const Arena* arena_ = nullptr;
  const T* parameters_ = nullptr;
  Wide<T>* gradients_ = nullptr;
  Probe probe_;
  std::vector<MicroBatch> in_flight_;
};

}  // namespace tessera::model
