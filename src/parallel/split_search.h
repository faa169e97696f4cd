// Search for the best cut of a list into runs that go to stages in turn (pure).
//
// One chunk is a shortest path over (run, piece). With more chunks a stage's sum couples runs that
// are far apart, so: start from the best runs by themselves; improve windows of `stages`
// neighbouring runs, each by a shortest path, and move the borders between chunks until nothing
// improves; then a depth-first branch and bound of the largest sum, the largest run and the squares
// in turn, which proves its part the best when it ends within its limit.
#pragma once

#include "parallel/split_paths.h"

namespace tessera::parallel {

struct SplitResult {
  Cuts cuts;
  bool proven = true;  // all searches ended: nothing is better
};
// `limit`: nodes of each of the three searches.
SplitResult best_cuts(const SplitProblem& problem, std::int64_t limit = 100'000);

}  // namespace tessera::parallel
