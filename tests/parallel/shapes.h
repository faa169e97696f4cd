// The pipelines that the property tests go through: every schedule, odd sizes, fewer micro-batches
// than stages, one stage, one micro-batch.
#pragma once

#include <string>
#include <vector>

#include "parallel/schedule.h"

namespace tessera::parallel {

inline std::vector<ScheduleShape> all_shapes() {
  std::vector<ScheduleShape> shapes;
  for (const auto kind : {PipelineSchedule::gpipe, PipelineSchedule::one_f_one_b,
                          PipelineSchedule::eager_one_f_one_b})
    for (const std::int64_t stages : {1, 2, 3, 4, 5, 7, 8, 16})
      for (const std::int64_t micro_batches : {1, 2, 3, 4, 5, 7, 8, 9, 16, 33})
        shapes.push_back({kind, stages, 1, micro_batches});
  for (const std::int64_t stages : {1, 2, 3, 4, 5, 8})
    for (const std::int64_t chunks : {1, 2, 3, 4, 5, 7})
      for (const std::int64_t groups : {1, 2, 3, 4, 7})
        shapes.push_back({PipelineSchedule::interleaved, stages, chunks, stages * groups});
  return shapes;
}

inline std::string name(const ScheduleShape& shape) {
  const char* const kinds[] = {"gpipe", "1f1b", "eager_1f1b", "interleaved"};
  return std::string(kinds[static_cast<int>(shape.kind)]) + ", " + std::to_string(shape.stages) +
         " stages x " + std::to_string(shape.chunks) + " chunks, " +
         std::to_string(shape.micro_batches) + " micro-batches";
}

// The schedules of all stages.
inline std::vector<RankSchedule> schedules(const ScheduleShape& shape) {
  std::vector<RankSchedule> all;
  for (std::int64_t stage = 0; stage < shape.stages; ++stage)
    all.push_back(make_schedule(shape, stage));
  return all;
}

}  // namespace tessera::parallel
