// When each instruction of a pipeline's ranks runs (pure), given what computing and sending cost.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/schedule.h"

namespace tessera::parallel {

struct StageCosts {
  // Seconds of an action of a virtual stage (one micro-batch).
  std::function<double(Action, std::int64_t virtual_stage)> compute;
  // Seconds of the message between virtual stages v and v + 1 (activation or gradient).
  std::function<double(std::int64_t virtual_stage)> link;
  // Where given: seconds that the first micro-batch's forward of a virtual stage, begun at `start`,
  // waits within itself (for parameters).
  std::function<double(std::int64_t virtual_stage, double start)> first_wait = {};
};

struct Span {
  Instruction instruction;
  double start = 0, end = 0;  // seconds
};

struct Timeline {
  std::vector<std::vector<Span>> ranks;  // a stage
  double seconds = 0;                    // until the last instruction ends
  // 1 - busy time of all ranks / (ranks x seconds); the wait within a first forward is idle.
  double bubble = 0;
};

// Runs the schedules of all stages: an instruction starts when its rank is free and its input has
// arrived; messages of a directed link (one rank to another) pass one after the other, behind
// computing. A message is received only once the buffer it goes to is free (docs/parallel.md).
// TESSERA_CHECK fails on a deadlock.
Timeline simulate(const ScheduleShape& shape, const StageCosts& costs);

// A line a rank of at most `width` columns, then a legend: digits are micro-batches (forward),
// letters backwards, '.' idle; odd chunks have marks behind the digit and capital letters.
std::string draw_text(const Timeline& timeline, std::int64_t width = 100);
// A self-contained SVG picture.
std::string draw_svg(const Timeline& timeline);

}  // namespace tessera::parallel
