// Pipeline schedules (pure): what one rank computes, in which order and in which slot.
//
// A rank holds `chunks` virtual stages; chunk c of stage s is virtual stage c * stages + s. A
// micro-batch goes forward through virtual stages 0 .. stages * chunks - 1 and backward through the
// same in reverse. Activations and gradients between neighbouring virtual stages follow from the
// order (docs/parallel.md, "Links"): instructions say nothing about communication.
//
// gpipe: all forwards, then all backwards (in order 0..M-1); chunks = 1.
//   Huang et al. 2019 (arXiv 1811.06965).
// 1f1b: min(stages - stage - 1, M) forwards, then one forward and one backward in turn; chunks = 1.
//   PipeDream-flush, Narayanan et al. 2021 (arXiv 2006.09503).
// eager_1f1b: the same with min(2 (stages - stage - 1), M) forwards first: a stage goes on with one
//   while a micro-batch is on its way to the next stage, and one while its gradient comes back, so
//   that messages cost no time; and one slot more than that, into which the next activation comes.
//   Zhuang et al. 2022 (arXiv 2211.05322).
// interleaved: 1F1B over chunks in groups of `stages` micro-batches; M a multiple of stages.
//   Narayanan et al. 2021 (arXiv 2104.04473), section 2.2.
#pragma once

#include <cstdint>
#include <vector>

#include "config/config.h"

namespace tessera::parallel {

enum class Action { forward, backward };

struct Instruction {
  Action action = Action::forward;
  std::int64_t micro_batch = 0;  // backwards of a chunk run in the order 0..M-1
  std::int64_t chunk = 0;
  std::int64_t slot =
      0;  // of the chunk's slots; the same for forward and backward of a micro-batch
  bool operator==(const Instruction&) const = default;
};

struct ScheduleShape {
  PipelineSchedule kind = PipelineSchedule::one_f_one_b;
  std::int64_t stages = 1, chunks = 1, micro_batches = 1;
};

// Gradients that cross stages have this many buffers a chunk, at either end (docs/parallel.md).
inline constexpr std::int64_t kGradientBuffers = 2;

struct RankSchedule {
  std::vector<Instruction> instructions;
  std::vector<std::int64_t> slots;  // a chunk: how many micro-batches it holds at most
};

// Error{config} naming the key (parallel.schedule, parallel.virtual_stages, train.global_batch) for
// shapes that the schedule cannot run.
void check_shape(const ScheduleShape& shape);

// The schedule of one stage; slots are given lowest free first, in eager_1f1b in turn.
// TESSERA_CHECKs the shape.
RankSchedule make_schedule(const ScheduleShape& shape, std::int64_t stage);

// Share of a rank's time that is idle when all virtual stages cost the same and links are free:
// (S - 1) / (M + S - 1) with one chunk, (S - 1) / (C M + S - 1) for interleaved.
double ideal_bubble(const ScheduleShape& shape);

}  // namespace tessera::parallel
