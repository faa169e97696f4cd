// A model is a list of pieces. A piece maps one boundary matrix to the next, forward and backward,
// for one micro-batch; the stage (model/stage.h) owns all memory and calls pieces in order.
//
// Memory has two lifetimes: `saved` lasts from a micro-batch's forward to its backward (one copy a
// slot), `scratch` only during one call (all pieces share it). Pieces reserve both once, in plan().
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/memory.h"
#include "kernels/queue.h"
#include "model/parameter_table.h"
#include "model/row_scores.h"

namespace tessera::model {

// One micro-batch: `sequences` samples of `context` tokens. In the queue's memory where pieces see
// it.
struct MicroBatch {
  std::int64_t sequences = 0;
  const std::int32_t* ids = nullptr;  // [sequences, context]
  // [sequences, context]; targets[t] is what position t should have been predicted as, or below 0
  // (core/targets.h)
  const std::int32_t* targets = nullptr;
};

// What the head does with the rows it is given.
enum class HeadMode {
  train,  // loss and gradients
  loss,   // loss alone
};

// A boundary between pieces, a row-major matrix.
struct Boundary {
  std::int64_t rows = 0, width = 0;
  std::int64_t count() const { return rows * width; }
};

template <typename T>
using Wide = kernels::Wide<T>;

// Everything a piece sees during a call. All pointers are into the queue's memory.
template <typename T>
struct Pass {
  kernels::Queue queue;
  MicroBatch batch;
  HeadMode mode = HeadMode::train;
  // d(reported loss) / d(sum of token losses): 1 / targets of the global batch; one number
  const Wide<T>* loss_weight = nullptr;
  // Keys of the token decoder's windows where batches hold padding (kernels/key_mask.h), else null
  const std::uint8_t* key_mask = nullptr;
  const ParameterTable* table = nullptr;
  const T* parameters = nullptr;  // flat
  Wide<T>* gradients = nullptr;   // flat, added to
  std::byte* saved = nullptr;
  std::byte* scratch = nullptr;
  const RowScores<T>* scores = nullptr;  // left by the head in loss mode, where somebody asks
  double* loss_sum = nullptr;  // nats over this micro-batch's targets, added to by the head

  const T* parameter(std::int64_t index) const { return parameters + (*table)[index].offset; }
  Wide<T>* gradient(std::int64_t index) const { return gradients + (*table)[index].offset; }
  template <typename E = T>
  E* kept(const Buffer& buffer) const {
    return reinterpret_cast<E*>(saved + buffer.offset);
  }
  template <typename E = T>
  E* temporary(const Buffer& buffer) const {
    return reinterpret_cast<E*>(scratch + buffer.offset);
  }
};

// Where plan() reserves. `scratch` starts empty for every piece; `constants` are filled by bind().
struct PiecePlan {
  MemoryPlan& saved;
  MemoryPlan& scratch;
  MemoryPlan& constants;
  kernels::Queue queue;
};

template <typename T>
class Piece {
 public:
  virtual ~Piece() = default;

  // "embedding", "block decoder layer 3", "head": names it in tables and traces.
  virtual std::string name() const = 0;
  // The boundary behind it for a micro-batch of `sequences`; zero rows behind the head.
  virtual Boundary output(std::int64_t sequences) const = 0;
  // Reserves memory for micro-batches of up to `sequences`.
  virtual void plan(std::int64_t sequences, PiecePlan plan) = 0;
  // What its operations need of Queue::workspace beyond kernels::kWorkspaceBytes.
  virtual std::int64_t workspace_bytes(const kernels::Queue&, std::int64_t) const { return 0; }
  // Fills constants, once the memory exists.
  virtual void bind(const kernels::Queue&, const Arena&) {}
  // in: the boundary before (null for the first piece); out: the boundary behind (null for the
  // head).
  virtual void forward(const Pass<T>& pass, const T* in, T* out) = 0;
  // in, out: as in the forward. dout: gradient of the boundary behind (null for the head); din:
  // gradient of the boundary before, overwritten (null for the first piece). Parameter gradients
  // are added to.
  virtual void backward(const Pass<T>& pass, const T* in, const T* dout, T* din) = 0;
  // Multiply-adds of the matrix products of one sequence's forward pass (docs/numbers.md).
  virtual double multiply_adds() const = 0;
};

}  // namespace tessera::model
