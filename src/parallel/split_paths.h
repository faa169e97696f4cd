// What shortest paths over (run, piece) say about cuts of a list into runs (pure).
#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <vector>

namespace tessera::parallel {

// What a cut is judged by, in this order.
struct SplitScore {
  std::int64_t stage = 0;    // largest sum of a stage's runs
  std::int64_t run = 0;      // largest run
  std::int64_t squares = 0;  // sum of the runs' squares
  auto operator<=>(const SplitScore&) const = default;
};

struct SplitProblem {
  std::vector<std::int64_t> before;  // [pieces + 1] cost of all pieces before; at most 2^31
  std::int64_t stages = 1, chunks = 1;

  std::int64_t pieces() const { return std::ssize(before) - 1; }
  std::int64_t runs() const { return stages * chunks; }
  std::int64_t total() const { return before.back(); }
  std::int64_t cost(std::int64_t begin, std::int64_t end) const {
    return before[static_cast<std::size_t>(end)] - before[static_cast<std::size_t>(begin)];
  }
};

using Cuts = std::vector<std::int64_t>;  // [runs + 1]: 0, ends of the runs

SplitScore score(const SplitProblem& problem, const Cuts& cuts);

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// The least that the largest run can be.
std::int64_t least_longest(const SplitProblem& problem);

// Least sum of squares of the pieces from `begin` in the last `runs` runs, each at most `longest`;
// kNever where that cannot be.
class Tails {
 public:
  Tails(const SplitProblem& problem, std::int64_t longest);

  std::int64_t least(std::int64_t runs, std::int64_t begin) const {
    return least_[static_cast<std::size_t>(runs * width_ + begin)];
  }
  bool possible() const { return least(problem_.runs(), 0) != kNever; }
  // The best cut, of equal ones that with the shortest first runs; where one is possible.
  Cuts cuts() const;

 private:
  template <typename Use>
  void each_end(std::int64_t runs, std::int64_t begin, const Use& use) const;

  const SplitProblem& problem_;
  std::int64_t longest_, width_;
  std::vector<std::int64_t> least_;
};

// Sums of the stages' runs.
std::vector<std::int64_t> stage_sums(const SplitProblem& problem, const Cuts& cuts);

}  // namespace tessera::parallel
