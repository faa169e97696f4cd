// The best layouts of a model for a number of ranks (pure): every combination of stages, replicas,
// virtual stages, schedule, micro-batch and rank order that runs and fits in memory, by predicted
// tokens a second.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/prediction.h"

namespace tessera::parallel {

struct SearchResult {
  std::vector<Prediction> best;  // fastest first
  std::int64_t layouts = 0;      // that the sizes allow
  std::int64_t too_large = 0;    // of these: need more memory than a rank has
};

// At most `most` layouts. config: everything but parallel.{pipeline, data, virtual_stages,
// schedule, order} and train.micro_batch holds for all of them. Error{config} when no layout runs,
// or none fits.
SearchResult search_layouts(const Predictor& predictor, const Config& config, std::int64_t ranks,
                            std::size_t most);

}  // namespace tessera::parallel
