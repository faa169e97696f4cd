// Pieces -> virtual stages (pure): contiguous runs that balance cost.
#pragma once

#include <cstdint>
#include <vector>

namespace tessera::parallel {

struct PieceRange {
  std::int64_t begin = 0, end = 0;  // of the model's list of pieces
  bool operator==(const PieceRange&) const = default;
};

// Cuts pieces of the given costs (any unit, > 0) into `stages` x `chunks` runs of at least one
// piece; run c * stages + s belongs to stage s. Minimises the largest sum of a stage's runs, then
// the largest run, then the sum of squares; deterministic. Error{config} when there are fewer
// pieces than runs.
std::vector<PieceRange> split_pieces(const std::vector<double>& costs, std::int64_t stages,
                                     std::int64_t chunks);

}  // namespace tessera::parallel
