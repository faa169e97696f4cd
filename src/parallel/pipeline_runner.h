// Runs the instructions of a rank's schedule (parallel/schedule.h): computing, messages between
// stages, and what is to happen ahead of a piece's first forward and behind its last backward. On
// CUDA every instruction is captured once and then replayed as graphs; the host only enqueues.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "model/stage.h"
#include "parallel/device_context.h"
#include "parallel/links.h"
#include "parallel/schedule.h"

namespace tessera::parallel {

// What every micro-batch of a step shares, in the queue's memory.
template <typename T>
struct StepTarget {
  const kernels::Wide<T>* loss_weight = nullptr;
  double* loss_sum = nullptr;
};

template <typename T>
class PipelineRunner {
 public:
  // `schedule`: of this stage; one stage object a chunk, with its slots. `context` outlives the
  // runner.
  PipelineRunner(const DeviceContext& context, const ScheduleShape& shape, std::int64_t stage,
                 const RankSchedule& schedule, std::vector<std::unique_ptr<model::Stage<T>>> chunks,
                 Links links, bool graphs);

  const std::vector<std::unique_ptr<model::Stage<T>>>& chunks() const { return chunks_; }
  const ScheduleShape& shape() const { return shape_; }
  bool holds_head() const { return stage_ == shape_.stages - 1; }

  // Buffers of gradients that cross stages.
  void plan(MemoryPlan& plan);
  void bind(const Arena& arena);

  // Where an instruction is run in parts: pieces (counted in the chunk) of each chunk.
  using Cuts = std::vector<std::vector<std::int64_t>>;
  using AtPiece = std::function<void(std::size_t chunk, std::int64_t piece)>;
  // `needed(chunk, piece)` is called ahead of the first micro-batch's forward of that piece, from
  // the first piece up, where `cuts` lists it.
  void set_needed(Cuts cuts, AtPiece needed);
  // `done(chunk, piece)` is called behind the last micro-batch's backward of that piece, from the
  // last piece down, where `cuts` lists it.
  void set_done(Cuts cuts, AtPiece done);

  void begin_step();
  // The next micro-batch's ids are in the queue's memory: runs what has become possible. A step
  // ends with the last micro-batch.
  void add(const model::MicroBatch& batch, const StepTarget<T>& target);

  // Forward alone, through all stages; the loss is added to *loss_sum where the head is. Every rank
  // of the pipeline calls it for the same batches.
  void evaluate(const model::MicroBatch& batch, double* loss_sum);
  // Forward and backward of the chunks here without messages (what comes in is whatever the buffers
  // hold), not captured; for measuring.
  void rehearse(const model::MicroBatch& batch, const StepTarget<T>& target);

  // Ends messages, from any thread.
  void abort() noexcept { links_.abort(); }

 private:
  // An instruction with what is known of it beforehand.
  struct Step {
    Instruction instruction;
    Channel* from = nullptr;  // where its input comes from; null: from this rank or nowhere
    Channel* to = nullptr;    // where its output goes
    // The buffer of the input is free once instructions before this index are enqueued.
    std::size_t free_after = 0;
    comm::Ticket received = 0;                         // this step's; 0: not posted
    std::vector<std::unique_ptr<DeviceGraph>> graphs;  // a part
  };
  bool first(std::int64_t chunk) const { return chunk == 0 && stage_ == 0; }
  bool last(std::int64_t chunk) const { return holds_head() && chunk == shape_.chunks - 1; }
  const DeviceStream& stream() const { return context_.stream(); }
  model::Stage<T>& chunk(std::int64_t index) const {
    return *chunks_[static_cast<std::size_t>(index)];
  }
  T* gradient_in(const Instruction& i) const;
  T* gradient_out(const Instruction& i) const;

  void post_receives(std::size_t now);
  void forward(std::size_t index, const StepTarget<T>& target);
  void backward(std::size_t index);
  // Enqueues `work`, which is a part of the step's instruction, or replays its graph.
  void run(Step& step, std::size_t part, bool whole, const std::function<void()>& work);

  const DeviceContext& context_;
  ScheduleShape shape_;
  std::int64_t stage_;
  std::vector<std::unique_ptr<model::Stage<T>>> chunks_;
  Links links_;
  bool graphs_;
  Cuts needed_cuts_, done_cuts_;
  AtPiece needed_, done_;

  std::vector<Step> steps_;
  std::vector<model::MicroBatch> batches_;  // of this step
  std::size_t next_ = 0;
  std::vector<Buffer> gradient_buffers_;  // a chunk: two in, two out
  const Arena* arena_ = nullptr;
  std::vector<std::vector<comm::Ticket>> sent_outputs_;    // [chunk][slot]
  std::vector<std::vector<comm::Ticket>> sent_gradients_;  // [chunk][2]
};

}  // namespace tessera::parallel
