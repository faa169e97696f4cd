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
// the largest run, then the sum of the runs' squares; deterministic. Costs that are whole numbers
// with a sum below 2^31 (over their common divisor) are compared exactly, others in steps of a
// billionth of their sum.
//
// The optimum for one stage, for one chunk, and wherever the search for more chunks ends within its
// limit (parallel/split_search.h): to balance sums of runs is NP-hard. Past the limit the best
// split found, which is no worse than the best cut into `stages` x `chunks` runs by themselves.
//
// An even sum a stage is not all that interleaved chunks need: while one rank runs a heavy chunk,
// its neighbour that runs a light one waits. split_pieces(costs, stages x chunks, 1) balances the
// runs themselves, with the same numbers of runs, and gives the shorter step where the two differ
// much (tests/parallel/split_test.cpp: 1.03 against 1.35 of the time without bubbles).
//
// Error{config} when there are fewer pieces than runs.
std::vector<PieceRange> split_pieces(const std::vector<double>& costs, std::int64_t stages,
                                     std::int64_t chunks);

}  // namespace tessera::parallel
