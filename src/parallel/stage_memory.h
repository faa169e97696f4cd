// What a rank of any layout would plan (pure): the same segments and bytes as its engine
// (parallel/rank_engine.h), without the engine, its GPU or its build.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "config/config.h"
#include "core/device.h"
#include "core/memory.h"
#include "model/architecture.h"
#include "parallel/schedule.h"

namespace tessera::parallel {

// GPU memory that a rank's process takes beside its plan: CUDA's context with our kernels and the
// libraries', and what NCCL takes for itself, for each group that the rank is in and for each
// multiprocessor that a group may hold. Measured on H100s with CUDA 13.0 and NCCL 2.28 as what the
// GPU had given away less the plan (docs/scaling.md); 0 on the CPU.
std::int64_t library_bytes(Device device, const ScheduleShape& shape, std::int64_t stage,
                           std::int64_t replicas);

// A run of pieces as one virtual stage holds it, for one size of micro-batch.
struct RangeSizes {
  std::int64_t flat = 0;                 // elements of its flat parameter space
  std::int64_t tensors = 0;              // parameters
  std::vector<std::int64_t> offsets;     // where each piece's begin
  std::int64_t input = 0, output = 0;    // elements of the boundaries
  std::int64_t slot = 0;                 // bytes a micro-batch in flight
  std::int64_t constants = 0;            // bytes
  std::int64_t scratch = 0, widest = 0;  // bytes: shared by pieces; the largest boundary
  std::int64_t workspace = 0;            // bytes that the device's operations share
};

// Sizes of one model's ranges, computed once each.
class StageMemory {
 public:
  // config.precision is resolved.
  StageMemory(const Config& config, Device device);

  const RangeSizes& range(model::PieceRange range, std::int64_t sequences) const;

  // The memory of a rank of `stage` whose chunks hold `ranges` (one a chunk), with `replicas` that
  // share its parameters. config: train and parallel sections as for the run.
  MemoryPlan rank(const Config& config, const std::vector<model::PieceRange>& ranges,
                  const ScheduleShape& shape, std::int64_t stage, std::int64_t replicas) const;

 private:
  template <typename T>
  RangeSizes measure(model::PieceRange range, std::int64_t sequences) const;

  Config config_;
  Device device_;
  mutable std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, RangeSizes> known_;
};

}  // namespace tessera::parallel
