#include "parallel/stage_memory.h"

#include <algorithm>

#include "core/error.h"
#include "core/integers.h"
#include "kernels/adamw.h"
#include "model/stage.h"
#include "optim/ownership.h"
#include "parallel/gradient_sync.h"
#include "parallel/links.h"
#include "parallel/piece_work.h"

namespace tessera::parallel {
namespace {

std::int64_t segment_bytes(const MemoryPlan& plan, const std::string& name) {
  for (const MemorySegment& s : plan.segments())
    if (s.name == name) return s.bytes;
  return 0;
}

}  // namespace

StageMemory::StageMemory(const Config& config, Device device) : config_(config), device_(device) {
  TESSERA_CHECK(config.precision != Precision::automatic);
}

template <typename T>
RangeSizes StageMemory::measure(model::PieceRange range, std::int64_t sequences) const {
  kernels::Queue queue;
  queue.device = device_;
  model::Stage<T> stage(config_.model, range, sequences, 1, model::model_options(config_), queue);
  RangeSizes sizes;
  sizes.flat = stage.table().flat_size();
  sizes.tensors = static_cast<std::int64_t>(stage.table().parameters().size());
  sizes.offsets = stage.piece_offsets();
  sizes.input = stage.input_count(sequences);
  sizes.output = stage.output_count(sequences);
  MemoryPlan plan;
  model::StageScratch scratch;
  stage.plan(plan, scratch);
  sizes.slot = segment_bytes(plan, "activations");
  sizes.constants = segment_bytes(plan, "constants");
  TESSERA_CHECK(sizes.slot + sizes.constants == plan.total_bytes());
  sizes.scratch = scratch.scratch_bytes;
  sizes.widest = scratch.gradient_bytes;
  sizes.workspace = stage.workspace_bytes();
  return sizes;
}

const RangeSizes& StageMemory::range(model::PieceRange range, std::int64_t sequences) const {
  const auto key = std::make_tuple(range.begin, range.end, sequences);
  const auto found = known_.find(key);
  if (found != known_.end()) return found->second;
  return known_
      .emplace(key, config_.precision == Precision::bf16 ? measure<kernels::bf16>(range, sequences)
                                                         : measure<float>(range, sequences))
      .first->second;
}

std::int64_t library_bytes(Device device, const ScheduleShape& shape, std::int64_t stage,
                           std::int64_t replicas) {
  if (device == Device::cpu) return 0;
  constexpr std::int64_t kContext = 577'000'000, kNccl = 332'000'000, kGroup = 78'000'000,
                         kBlock = 18'900'000;
  std::int64_t neighbours = 0;
  if (shape.stages > 1)
    neighbours = shape.chunks > 1 ? 2 : (stage > 0 ? 1 : 0) + (stage + 1 < shape.stages ? 1 : 0);
  const std::int64_t links = 2 * neighbours, groups = links + (replicas > 1 ? 1 : 0);
  if (groups == 0) return kContext;
  const std::int64_t blocks = links * kLinkBlocks + (replicas > 1 ? kReplicaBlocks : 0);
  return kContext + kNccl + groups * kGroup + blocks * kBlock;
}

MemoryPlan StageMemory::rank(const Config& config, const std::vector<model::PieceRange>& ranges,
                             const ScheduleShape& shape, std::int64_t stage,
                             std::int64_t replicas) const {
  const RankSchedule schedule = make_schedule(shape, stage);
  TESSERA_CHECK(ranges.size() == schedule.slots.size());
  const std::int64_t element = element_bytes(config_.precision),
                     sequences = config.train.micro_batch;
  const bool masters = element < kWideBytes;
  const bool shared = replicas > 1;
  std::int64_t flat = 0, tensors = 0;
  for (const model::PieceRange r : ranges) {
    flat += this->range(r, sequences).flat;
    tensors += this->range(r, sequences).tensors;
  }
  const optim::Partition partition(flat, replicas, optim::bucket_elements(config.parallel));
  const std::int64_t padded = partition.padded();
  const std::int64_t owned =
      shared && config.parallel.zero == 1 ? div_exact(padded, replicas) : padded;

  MemoryPlan plan;
  plan.reserve("parameters", padded, element);
  plan.reserve("gradients", padded, kWideBytes);
  if (shared && config.parallel.gradient_dtype == GradientType::bf16)
    plan.reserve("gradients on the wire", padded, 2);
  if (masters) plan.reserve("master parameters", owned, kWideBytes);
  plan.reserve("adam moments", owned, kWideBytes);
  plan.reserve("adam moments", owned, kWideBytes);
  // The optimizer's list: a slice a tensor on a CPU, one a thread block's work on CUDA.
  const std::int64_t slices =
      tensors + (device_ == Device::cuda ? owned / kernels::kSliceElements : 0);
  plan.reserve("constants", slices, sizeof(kernels::TensorSlice) + sizeof(double));
  plan.reserve("constants", tensors, sizeof(double));
  plan.reserve("constants", 1, sizeof(kernels::AdamWStep));

  std::int64_t scratch = 0, widest = 0, workspace = 0;
  for (std::size_t c = 0; c < ranges.size(); ++c) {
    const RangeSizes& sizes = this->range(ranges[c], sequences);
    plan.reserve("constants", sizes.constants, 1);
    for (std::int64_t s = 0; s < schedule.slots[c]; ++s) plan.reserve("activations", sizes.slot, 1);
    scratch = std::max(scratch, sizes.scratch);
    widest = std::max(widest, sizes.widest);
    workspace = std::max(workspace, sizes.workspace);
  }
  plan.reserve("activation gradients", widest, 1);
  plan.reserve("activation gradients", widest, 1);
  plan.reserve("scratch", scratch, 1);
  for (const model::PieceRange r : ranges) {
    const RangeSizes& sizes = this->range(r, sequences);
    const bool last = r.end == model::piece_count(config_.model);
    for (std::int64_t i = 0; i < kGradientBuffers; ++i) {
      plan.reserve("gradients between stages", last ? 0 : sizes.output, element);
      plan.reserve("gradients between stages", sizes.input, element);
    }
  }
  plan.reserve("constants", 2, sizeof(double));
  // A CPU without a pipeline computes a micro-batch before it takes the next.
  const bool one = device_ == Device::cpu && shape.stages == 1;
  for (std::int64_t m = 0; m < (one ? 1 : shape.micro_batches); ++m)
    plan.reserve("inputs", 2 * sequences * config_.model.context, sizeof(std::int32_t));
  // Losses, likeliest tokens and what finding these takes, where the head is.
  const bool head = ranges.back().end == model::piece_count(config_.model);
  if (head && !config.eval.tasks.empty())
    for (const std::int64_t bytes : {kWideBytes, std::int64_t{4}, std::int64_t{4}, std::int64_t{1}})
      plan.reserve("scores", sequences * model::targets_a_sample(config_.model), bytes);
  if (device_ == Device::cuda) plan.reserve("kernel workspace", workspace, 1);
  return plan;
}

}  // namespace tessera::parallel
