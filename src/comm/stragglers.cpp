#include "comm/stragglers.h"

#include <algorithm>
#include <cstdio>
#include <map>

namespace tessera::comm {

Stragglers::Stragglers(std::vector<std::int64_t> groups)
    : groups_(std::move(groups)), counts_(groups_.size()) {}

std::vector<std::string> Stragglers::note(std::int64_t rank, std::int64_t steps, double seconds) {
  Count& count = counts_.at(static_cast<std::size_t>(rank));
  count.steps = steps;
  count.seconds = seconds;
  for (const Count& each : counts_)
    if (each.steps - each.start_steps < kWindow) return {};
  return compare();
}

std::vector<std::string> Stragglers::compare() {
  std::vector<double> means;
  std::map<std::int64_t, std::vector<double>> of_group;
  for (std::size_t rank = 0; rank < counts_.size(); ++rank) {
    Count& count = counts_[rank];
    const double mean = (count.seconds - count.start_seconds) /
                        static_cast<double>(count.steps - count.start_steps);
    means.push_back(mean);
    of_group[groups_[rank]].push_back(mean);
    count.start_steps = count.steps;
    count.start_seconds = count.seconds;
  }
  std::vector<std::string> warnings;
  for (auto& [group, values] : of_group) std::sort(values.begin(), values.end());
  for (std::size_t rank = 0; rank < counts_.size(); ++rank) {
    // Of an even number the lower middle: of two ranks the faster is the measure.
    const std::vector<double>& values = of_group[groups_[rank]];
    const double median = values[(values.size() - 1) / 2];
    Count& count = counts_[rank];
    if (means[rank] <= kSlow * median) continue;
    if (count.warned && count.steps - *count.warned < kBetween) continue;
    count.warned = count.steps;
    char text[160];
    std::snprintf(text, sizeof text,
                  "rank %zu is slow: %.3g ms of computing a step where the median of its like is "
                  "%.3g ms",
                  rank, 1e3 * means[rank], 1e3 * median);
    warnings.emplace_back(text);
  }
  return warnings;
}

}  // namespace tessera::comm
