// Better cuts from a cut, by leaving most of it as it is.
#pragma once

#include "parallel/split_paths.h"

namespace tessera::parallel {

// Cuts windows of `stages` neighbouring runs, one of every stage, anew until none gets better.
void improve_windows(const SplitProblem& problem, Cuts& cuts);

// Tries every place for every border between two chunks' runs, and improves the windows at the
// best. A heavy head asks for that: what its stage gets beside it should be in a chunk of light
// pieces.
void improve_borders(const SplitProblem& problem, Cuts& cuts);

}  // namespace tessera::parallel
