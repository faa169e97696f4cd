// What a step of a layout will take, move and hold, before anything runs: piece costs through the
// schedule's timeline, gradients and parameters over the replicas' links, memory by segment.
// docs/numbers.md defines every figure, docs/scaling.md the assumptions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/topology.h"
#include "core/memory.h"
#include "parallel/link_costs.h"
#include "parallel/piece_costs.h"
#include "parallel/split.h"
#include "parallel/stage_memory.h"
#include "parallel/timeline.h"

namespace tessera::parallel {

struct StagePrediction {
  std::vector<PieceRange> ranges;    // one a chunk
  double forward = 0, backward = 0;  // seconds of a micro-batch, all chunks
  std::int64_t parameters = 0;       // elements, padding between tensors included
  MemoryPlan memory;                 // of its fullest rank
  std::int64_t libraries = 0;        // bytes beside that (library_bytes)
  double computed = 0, reduced = 0;  // seconds into the step: last backward, last gradient summed
};

// One kind of traffic of a stage's ranks in a step.
struct LinkTraffic {
  std::string what;            // "activations", "gradients back", "gradient sums", "parameters"
  std::int64_t stage = 0;      // the sender
  std::int64_t to_stage = -1;  // -1: among the replicas of the stage
  double bytes = 0;            // that each of the ranks sends
  double seconds = 0;          // on the link, hidden behind computing or not
  bool between_nodes = false;
};

// Where the seconds of a step go, in order; their sum is the step.
struct StepParts {
  double clear = 0;      // of gradients
  double computing = 0;  // mean over ranks
  double waiting = 0;    // of ranks in the pipeline, mean: bubble, imbalance, messages
  double gather = 0;     // what the first forwards' waiting for parameters adds to the pipeline
  double reduction = 0;  // of gradients, behind the last backward
  double agreement = 0;  // norms, and the reduction that all ranks decide by
  double update = 0;     // AdamW
  double total() const {
    return clear + computing + waiting + gather + reduction + agreement + update;
  }
};

struct Prediction {
  Config config;            // with the layout's parallel and train sections
  comm::Topology topology;  // of rank 0
  ScheduleShape shape;
  std::vector<StagePrediction> stages;
  std::vector<LinkTraffic> links;
  Timeline timeline;  // of a replica, parameters still arriving when it begins
  StepParts parts;
  double step_seconds = 0, tokens_per_second = 0;
  double mfu = 0;     // of 989 TFLOP/s a rank (docs/numbers.md)
  double bubble = 0;  // of the timeline with parameters in place
  double ideal_bubble = 0;
  std::int64_t memory_bytes = 0;  // of the fullest rank
  bool fits = true;
};

// The part of a step, computing apart, that costs most: what stands in the way first.
std::string first_bottleneck(const Prediction& prediction);

class Predictor {
 public:
  // config: the model, precision (resolved) and what layouts do not change.
  Predictor(const Config& config, Device device, const Machine& machine,
            std::optional<CostRatios> ratios = {});

  const Machine& machine() const { return machine_; }
  bool measured() const { return costs_.measured(); }
  const std::vector<PieceCost>& pieces(std::int64_t sequences) const {
    return costs_.micro_batch(sequences);
  }

  // `layout`: the configuration with its own parallel and train sections. Error{config} for sizes
  // that cannot run.
  Prediction predict(const Config& layout, std::int64_t ranks) const;

  // Seconds that a step of the layout takes at least, and whether it fits in memory; far cheaper.
  struct Bound {
    double seconds = 0;
    bool fits = true;
  };
  Bound bound(const Config& layout, std::int64_t ranks) const;

 private:
  // A layout's sizes, which predict() and bound() share.
  struct Frame {
    Config config;
    comm::Topology topology;
    ScheduleShape shape;
    std::vector<PieceRange> ranges;         // a virtual stage
    std::vector<double> forward, backward;  // seconds, a virtual stage
    double element = 0;                     // bytes of an activation or working parameter
    std::int64_t stage_of(std::int64_t v) const { return v % shape.stages; }
    bool gathers() const { return topology.replicas > 1 && config.parallel.zero == 1; }
  };
  Frame frame(const Config& layout, std::int64_t ranks) const;
  StagePrediction stage(const Frame& frame, std::int64_t index) const;
  // Elements of a stage's parameters: all, padded for its replicas; and what one of them updates.
  struct Share {
    std::int64_t padded = 0, owned = 0;
  };
  Share share(const Frame& frame, std::int64_t parameters) const;
  // Bytes behind virtual stage v, and whether they go to another node.
  double boundary_bytes(const Frame& frame, std::int64_t v) const;
  bool boundary_crosses(const Frame& frame, std::int64_t v) const;
  // Where the parameters of the pieces of a stage's chunks begin, in the order of the flat space.
  std::vector<std::int64_t> piece_begins(const Frame& frame, const StagePrediction& stage) const;
  // Of each piece of these, when the parameters that it needs are there; the pipeline begins at 0,
  // `ahead` after AdamW, which takes the stage's ranks `update`. Empty: nothing is gathered.
  std::vector<double> gathered(const Frame& frame, const StagePrediction& stage, std::int64_t index,
                               double update, double ahead) const;
  // How long a first forward that begins at `start` waits; `there` of its stage.
  double first_wait(const Frame& frame, const std::vector<double>& there,
                    const StagePrediction& stage, std::int64_t chunk, double start) const;
  // When the last bucket of a stage's gradients is summed.
  double reduced(const Frame& frame, const StagePrediction& stage, std::int64_t index,
                 const Timeline& timeline) const;
  void add_traffic(const Frame& frame, Prediction& prediction) const;

  Config config_;
  Device device_;
  Machine machine_;
  PieceCosts costs_;
  StageMemory memory_;
};

}  // namespace tessera::parallel
