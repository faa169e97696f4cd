#include "parallel/schedule.h"

#include <algorithm>
#include <set>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"

namespace tessera::parallel {
namespace {

using Order = std::vector<Instruction>;

Instruction forward(std::int64_t micro_batch, std::int64_t chunk) {
  return {Action::forward, micro_batch, chunk, 0};
}
Instruction backward(std::int64_t micro_batch, std::int64_t chunk) {
  return {Action::backward, micro_batch, chunk, 0};
}

Order gpipe(const ScheduleShape& shape) {
  Order order;
  for (std::int64_t m = 0; m < shape.micro_batches; ++m) order.push_back(forward(m, 0));
  for (std::int64_t m = 0; m < shape.micro_batches; ++m) order.push_back(backward(m, 0));
  return order;
}

// `warm` forwards, then one forward and one backward in turn, then the backwards that are left.
template <typename Forward, typename Backward>
Order in_turns(std::int64_t total, std::int64_t warm, Forward forward_of, Backward backward_of) {
  Order order;
  for (std::int64_t k = 0; k < warm; ++k) order.push_back(forward_of(k));
  for (std::int64_t k = warm; k < total; ++k) {
    order.push_back(forward_of(k));
    order.push_back(backward_of(k - warm));
  }
  for (std::int64_t k = total - warm; k < total; ++k) order.push_back(backward_of(k));
  return order;
}

Order one_f_one_b(const ScheduleShape& shape, std::int64_t stage) {
  return in_turns(
      shape.micro_batches, std::min(shape.stages - stage - 1, shape.micro_batches),
      [](std::int64_t k) { return forward(k, 0); }, [](std::int64_t k) { return backward(k, 0); });
}

// Chunk after chunk for `stages` micro-batches at a time, backwards from the last chunk.
Order interleaved(const ScheduleShape& shape, std::int64_t stage) {
  const std::int64_t stages = shape.stages, chunks = shape.chunks;
  const std::int64_t total = shape.micro_batches * chunks;
  const auto micro_batch = [=](std::int64_t k) {
    return k / (stages * chunks) * stages + k % stages;
  };
  const auto chunk = [=](std::int64_t k) { return k % (stages * chunks) / stages; };
  return in_turns(
      total, std::min(2 * (stages - stage - 1) + (chunks - 1) * stages, total),
      [=](std::int64_t k) { return forward(micro_batch(k), chunk(k)); },
      [=](std::int64_t k) { return backward(micro_batch(k), chunks - 1 - chunk(k)); });
}

}  // namespace

void check_shape(const ScheduleShape& shape) {
  const auto refuse = [](const std::string& what) { throw Error(Category::config, what); };
  if (shape.kind != PipelineSchedule::interleaved && shape.chunks != 1)
    refuse(fmt::format("parallel.virtual_stages = {} needs parallel.schedule: interleaved",
                       shape.chunks));
  if (shape.kind == PipelineSchedule::interleaved && shape.micro_batches % shape.stages != 0)
    refuse(
        fmt::format("parallel.schedule: interleaved needs the {} micro-batches of a replica "
                    "(train.global_batch / train.micro_batch / replicas) to be a multiple of "
                    "parallel.pipeline = {}",
                    shape.micro_batches, shape.stages));
}

RankSchedule make_schedule(const ScheduleShape& shape, std::int64_t stage) {
  TESSERA_CHECK(stage >= 0 && stage < shape.stages);
  RankSchedule schedule;
  schedule.instructions = shape.kind == PipelineSchedule::gpipe         ? gpipe(shape)
                          : shape.kind == PipelineSchedule::one_f_one_b ? one_f_one_b(shape, stage)
                                                                        : interleaved(shape, stage);
  const auto chunks = static_cast<std::size_t>(shape.chunks);
  schedule.slots.assign(chunks, 0);
  std::vector<std::set<std::int64_t>> free(chunks);
  std::vector<std::vector<std::int64_t>> held(
      chunks, std::vector<std::int64_t>(static_cast<std::size_t>(shape.micro_batches)));
  for (Instruction& i : schedule.instructions) {
    const auto c = static_cast<std::size_t>(i.chunk);
    std::int64_t& slot = held[c][static_cast<std::size_t>(i.micro_batch)];
    if (i.action == Action::backward) {
      free[c].insert(slot);
    } else if (free[c].empty()) {
      slot = schedule.slots[c]++;
    } else {
      slot = *free[c].begin();
      free[c].erase(free[c].begin());
    }
    i.slot = slot;
  }
  return schedule;
}

double ideal_bubble(const ScheduleShape& shape) {
  const auto idle = static_cast<double>(shape.stages - 1);
  return idle / (static_cast<double>(shape.chunks * shape.micro_batches) + idle);
}

}  // namespace tessera::parallel
