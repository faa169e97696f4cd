// Which rank computes far more slowly than its like (pure): a slow rank holds every other rank up
// at each step, and nothing but its own time tells which it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tessera::comm {

class Stragglers {
 public:
  static constexpr std::int64_t kWindow = 20;    // steps compared
  static constexpr std::int64_t kBetween = 100;  // steps between two warnings about a rank
  static constexpr double kSlow = 2.0;           // times the median

  // groups[rank]: ranks of one number do the same work (replicas of a stage) and are compared.
  explicit Stragglers(std::vector<std::int64_t> groups);

  // Totals since the rank's start: steps done and seconds computed in them, waiting left out.
  // Returns a warning for each rank found slow once every rank has done kWindow more steps.
  std::vector<std::string> note(std::int64_t rank, std::int64_t steps, double seconds);

 private:
  struct Count {
    std::int64_t steps = 0, start_steps = 0;
    double seconds = 0, start_seconds = 0;
    std::optional<std::int64_t> warned;  // at this many steps
  };
  std::vector<std::string> compare();
  std::vector<std::int64_t> groups_;
  std::vector<Count> counts_;
};

}  // namespace tessera::comm
