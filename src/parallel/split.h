// Pieces -> virtual stages (pure): contiguous runs that balance cost.
#pragma once

#include <cstdint>
#include <vector>

#include "model/architecture.h"

namespace tessera::parallel {

using model::PieceRange;

// Cuts pieces of the given costs (any unit, > 0) into `stages` x `chunks` runs of at least one
// piece; run c * stages + s belongs to stage s. Minimises the largest run, then the sum of their
// squares; deterministic. Error{config} when there are fewer pieces than runs.
std::vector<PieceRange> split_pieces(const std::vector<double>& costs, std::int64_t stages,
                                     std::int64_t chunks);

}  // namespace tessera::parallel
