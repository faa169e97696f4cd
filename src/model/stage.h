// A run of pieces with its memory: a whole model, or one virtual stage of a pipeline, whose first
// boundary comes from elsewhere and whose last one goes elsewhere.
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

// Memory that lasts for one call, which stages of one queue may share.
struct StageScratch {
  std::int64_t scratch_bytes = 0, gradient_bytes = 0;  // of pieces; of each gradient buffer
  Buffer scratch, gradient_a, gradient_b;
  void reserve(MemoryPlan& plan);
};

template <typename T>
class Stage {
 public:
  // All pieces of the model, for micro-batches of up to `sequences`.
  Stage(const ModelConfig& config, std::int64_t sequences, std::int64_t slots,
        const ModelOptions& options = {}, kernels::Queue queue = {});
  // The pieces of `range`.
  Stage(const ModelConfig& config, PieceRange range, std::int64_t sequences, std::int64_t slots,
        const ModelOptions& options, kernels::Queue queue);

  const ModelConfig& config() const { return config_; }
  const ParameterTable& table() const { return table_; }
  std::int64_t sequences() const { return sequences_; }

  // Everything; or what is kept alone, raising the needs of `scratch`, which the caller reserves
  // and hands to use().
  void plan(MemoryPlan& plan);
  void plan(MemoryPlan& plan, StageScratch& scratch);
  void use(const StageScratch& scratch) { scratch_ = scratch; }
  // `flat_size` elements each, in the queue's memory; gradients may be null when only losses are
  // asked for. `queue` has its workspace (workspace_bytes() at least) from here on.
  void bind(const Arena& arena, const T* parameters, Wide<T>* gradients);
  void set_queue(const kernels::Queue& queue) { queue_ = queue; }
  // Where forward() in loss mode leaves losses and likeliest tokens of the predicting rows; null
  // losses: nowhere.
  void set_scores(const RowScores<T>& scores) { scores_ = scores; }
  // What the operations of this stage need of Queue::workspace.
  std::int64_t workspace_bytes() const;

  // Runs a micro-batch forward through `slot`; with HeadMode::train the head also computes its
  // gradients, scaled by *loss_weight. Adds the sum of token losses (nats) to *loss_sum. All
  // pointers are in the queue's memory.
  void forward(std::int64_t slot, const MicroBatch& batch, HeadMode mode,
               const Wide<T>* loss_weight, double* loss_sum) {
    forward(slot, batch, mode, loss_weight, loss_sum,
            {0, static_cast<std::int64_t>(pieces_.size())});
  }
  // The same for a part of the pieces (counted within the stage), which are taken from the first to
  // the last: the parts of one forward follow one another upwards.
  void forward(std::int64_t slot, const MicroBatch& batch, HeadMode mode,
               const Wide<T>* loss_weight, double* loss_sum, PieceRange part);
  // What forward() says of `slot` where it is replayed from a captured graph.
  void hold(std::int64_t slot, const MicroBatch& batch) {
    in_flight_[static_cast<std::size_t>(slot)] = batch;
  }
  // Back through the micro-batch that `slot` holds; adds to the gradients.
  void backward(std::int64_t slot) {
    backward(slot, nullptr, nullptr, {0, static_cast<std::int64_t>(pieces_.size())});
  }
  // The same for a part of the pieces (counted within the stage), which are taken from the last to
  // the first: the parts of one backward follow one another downwards. dout: gradient of output()
  // (null behind the head); din: receives the gradient of input() (null for a model's first piece).
  void backward(std::int64_t slot, const T* dout, T* din, PieceRange part);

  // The boundary before the first piece and behind the last one, of `slot`; null where the model
  // begins or ends.
  T* input(std::int64_t slot) const;
  T* output(std::int64_t slot) const;
  // Elements of these for a micro-batch of `sequences`.
  std::int64_t input_count(std::int64_t sequences) const;
  std::int64_t output_count(std::int64_t sequences) const;

  // Called with a piece's number and "forward" or "backward" behind each; for measurements.
  using Probe = std::function<void(std::size_t piece, bool backward)>;
  void set_probe(Probe probe) { probe_ = std::move(probe); }

  // Logits of every predicting row of `batch`, [rows, vocab] (rows as in Head::predicting_rows), in
  // host memory.
  std::vector<T> logits(const MicroBatch& batch);

  // Multiply-adds of a sequence's forward pass.
  double multiply_adds() const;
  const std::vector<std::unique_ptr<Piece<T>>>& pieces() const { return pieces_; }
  // Where each piece's parameters begin in the flat space.
  const std::vector<std::int64_t>& piece_offsets() const { return piece_offsets_; }

 private:
  Pass<T> pass(std::int64_t slot);
  // Fills the slot's key mask, where there is one.
  void mask_keys(const Pass<T>& pass);
  T* at(std::int64_t slot, const Buffer& buffer) const;
  // Before piece `piece`.
  T* boundary(std::int64_t slot, std::size_t piece) const;

  ModelConfig config_;
  std::int64_t sequences_, slots_;
  kernels::Queue queue_;
  ParameterTable table_;
  std::vector<std::int64_t> piece_offsets_;
  bool masks_keys_ = false;  // has layers whose windows may hold padding
  std::vector<std::unique_ptr<Piece<T>>> pieces_;
  std::unique_ptr<Piece<T>>
      before_;  // the piece whose output comes in; null where the model begins

  MemoryPlan slot_plan_;             // layout of one slot
  Buffer input_;                     // within a slot
  Buffer key_mask_;                  // within a slot, empty without padded windows
  std::vector<Buffer> boundaries_;   // within a slot, behind each piece
  std::vector<Buffer> slot_memory_;  // one a slot
  StageScratch scratch_;
  const Arena* arena_ = nullptr;
  const T* parameters_ = nullptr;
  Wide<T>* gradients_ = nullptr;
  Probe probe_;
  RowScores<T> scores_;
  std::vector<MicroBatch> in_flight_;
};

}  // namespace tessera::model
