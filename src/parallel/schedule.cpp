// Orders of forwards and backwards of the three schedules, and the slots they take.
#include "parallel/schedule.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <string>

#include "config/values.h"
#include "core/error.h"

namespace tessera::parallel {
namespace {

// A schedule is a list in memory; more forwards a rank than this in one step are a mistake.
constexpr std::int64_t kMostForwards = 1'000'000;

std::string number(std::int64_t value) {
  return std::to_string(value);
}

// What is wrong with the shape, or "".
std::string complaint(const ScheduleShape& shape) {
  const std::int64_t stages = shape.stages, chunks = shape.chunks, count = shape.micro_batches;
  const bool interleaved = shape.kind == PipelineSchedule::interleaved;
  if (stages < 1)
    return "parallel.pipeline: found " + number(stages) +
           " stages, expected at least 1; set parallel.pipeline: 1";
  if (chunks < 1)
    return "parallel.virtual_stages: found " + number(chunks) +
           ", expected at least 1; set parallel.virtual_stages: 1";
  if (count < 1)
    return "train.global_batch: gives a replica " + number(count) +
           " micro-batches a step, expected at least " + number(interleaved ? stages : 1) +
           "; set it to " + number(interleaved ? stages : 1) +
           " x train.micro_batch x parallel.data";
  if (chunks > 1 && !interleaved)
    return "parallel.virtual_stages: found " + number(chunks) +
           " with parallel.schedule: " + settings::print_value(shape.kind) +
           ", which runs one; set parallel.virtual_stages: 1 or parallel.schedule: interleaved";
  if (interleaved && count % stages != 0) {
    const std::int64_t below = count / stages * stages;
    const std::string works =
        (below > 0 ? number(below) + " or " : std::string()) + number(below + stages);
    return "train.global_batch: gives a replica " + number(count) +
           " micro-batches a step, but parallel.schedule: interleaved runs them in groups of "
           "parallel.pipeline = " +
           number(stages) + "; make them " + works +
           " (train.global_batch = micro-batches x train.micro_batch x parallel.data) or set "
           "parallel.schedule: 1f1b";
  }
  if (count > kMostForwards / chunks)
    return "train.global_batch: gives a replica " + number(count) + " micro-batches a step of " +
           number(chunks) + (chunks == 1 ? " forward" : " forwards") + " each, expected at most " +
           number(kMostForwards) +
           " forwards a rank; raise train.micro_batch or parallel.data until there are " +
           number(std::max<std::int64_t>(kMostForwards / chunks, 1)) + " micro-batches or fewer";
  return {};
}

// Micro-batch and chunk of the k-th forward of a rank: groups of `stages` micro-batches go through
// chunk 0, then chunk 1, ... With one chunk this is 0, 1, 2, ...
Instruction forward_at(const ScheduleShape& shape, std::int64_t k) {
  const std::int64_t group = shape.stages * shape.chunks;
  return {.action = Action::forward,
          .micro_batch = k / group * shape.stages + k % shape.stages,
          .chunk = k % group / shape.stages};
}

// The same for the k-th backward: from the last chunk to the first.
Instruction backward_at(const ScheduleShape& shape, std::int64_t k) {
  Instruction result = forward_at(shape, k);
  result.action = Action::backward;
  result.chunk = shape.chunks - 1 - result.chunk;
  return result;
}

// Forwards of a stage before its first backward is due in turn with them.
std::int64_t warm_up(const ScheduleShape& shape, std::int64_t stage) {
  const std::int64_t forwards = shape.micro_batches * shape.chunks;
  switch (shape.kind) {
    case PipelineSchedule::gpipe:
      return forwards;
    case PipelineSchedule::one_f_one_b:
      return std::min(shape.stages - stage - 1, forwards);
    case PipelineSchedule::eager_one_f_one_b:
      return std::min(2 * (shape.stages - stage - 1), forwards);
    case PipelineSchedule::interleaved:
      // All chunks but the last for the first group, and two a hop: a stage runs one instruction of
      // each kind while a micro-batch goes to its neighbour, and one while its gradient returns.
      return std::min(2 * (shape.stages - stage - 1) + (shape.chunks - 1) * shape.stages, forwards);
  }
  check_failed("a known schedule", __FILE__, __LINE__);
}

// Gives every forward the lowest slot of its chunk that is free, and frees it behind the backward.
void give_slots(RankSchedule& schedule, const ScheduleShape& shape) {
  using LowestFirst =
      std::priority_queue<std::int64_t, std::vector<std::int64_t>, std::greater<std::int64_t>>;
  std::vector<LowestFirst> free(static_cast<std::size_t>(shape.chunks));
  std::vector<std::vector<std::int64_t>> held(
      free.size(), std::vector<std::int64_t>(static_cast<std::size_t>(shape.micro_batches)));
  schedule.slots.assign(free.size(), 0);
  for (Instruction& instruction : schedule.instructions) {
    const auto chunk = static_cast<std::size_t>(instruction.chunk);
    std::int64_t& slot = held[chunk][static_cast<std::size_t>(instruction.micro_batch)];
    if (instruction.action == Action::backward) {
      free[chunk].push(slot);
    } else if (free[chunk].empty()) {
      slot = schedule.slots[chunk]++;
    } else {
      slot = free[chunk].top();
      free[chunk].pop();
    }
    instruction.slot = slot;
  }
}

// Slots in turn, one more than are held at a time: the next activation is on its way into a slot
// while all the others wait for their backward.
void give_slots_in_turn(RankSchedule& schedule, const ScheduleShape& shape, std::int64_t held) {
  schedule.slots = {std::min(held + 1, shape.micro_batches)};
  for (Instruction& instruction : schedule.instructions)
    instruction.slot = instruction.micro_batch % schedule.slots[0];
}

}  // namespace

void check_shape(const ScheduleShape& shape) {
  const std::string wrong = complaint(shape);
  if (!wrong.empty()) throw Error(Category::config, wrong);
}

RankSchedule make_schedule(const ScheduleShape& shape, std::int64_t stage) {
  TESSERA_CHECK(complaint(shape).empty());
  TESSERA_CHECK(0 <= stage && stage < shape.stages);
  const std::int64_t forwards = shape.micro_batches * shape.chunks;
  const std::int64_t ahead = warm_up(shape, stage);
  RankSchedule result;
  result.instructions.reserve(static_cast<std::size_t>(2 * forwards));
  for (std::int64_t k = 0; k < ahead; ++k) result.instructions.push_back(forward_at(shape, k));
  for (std::int64_t k = 0; k < forwards; ++k) {
    if (ahead + k < forwards) result.instructions.push_back(forward_at(shape, ahead + k));
    result.instructions.push_back(backward_at(shape, k));
  }
  if (shape.kind == PipelineSchedule::eager_one_f_one_b)
    give_slots_in_turn(result, shape, ahead + 1);
  else
    give_slots(result, shape);
  return result;
}

double ideal_bubble(const ScheduleShape& shape) {
  TESSERA_CHECK(complaint(shape).empty());
  // Filling and draining take stages - 1 turns of one virtual stage; the work takes chunks x
  // micro-batches turns.
  const auto idle = static_cast<double>(shape.stages - 1);
  return idle / (static_cast<double>(shape.chunks * shape.micro_batches) + idle);
}

}  // namespace tessera::parallel
