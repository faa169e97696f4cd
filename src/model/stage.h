// A run of pieces with its memory: what one rank computes. One stage is a whole model today; a
// pipeline stage is the same class over fewer pieces.
//
// plan() reserves everything in the caller's MemoryPlan, bind() points into the Arena made from it;
// after that nothing allocates. A slot holds one micro-batch between its forward and its backward.
#pragma once

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
  // `flat_size` elements each; gradients may be null when only losses are asked for.
  void bind(const Arena& arena, const T* parameters, T* gradients);

  // Runs a micro-batch forward through `slot`; with HeadMode::train the head also computes its
  // gradients. Adds the sum of token losses (nats) to loss_sum.
  void forward(std::int64_t slot, const MicroBatch& batch, HeadMode mode, double loss_weight,
               double& loss_sum);
  // Back through the micro-batch that `slot` holds; adds to the gradients.
  void backward(std::int64_t slot);

  // Logits of every predicting row of `batch`, [rows, vocab] (rows as in Head::predicting_rows).
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
  T* gradients_ = nullptr;
  std::vector<MicroBatch> in_flight_;
};

}  // namespace tessera::model
