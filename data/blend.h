// Which source of a weighted blend each position of the run draws, and which sample of it.
//
// Weights become whole numbers that add up to a period; within it the order is the earliest-
// deadline-first schedule (the k-th sample of a source with share w is due before position
// (k + 1) / w and not before k / w), so that after any number of positions each source has given
// its share to within one sample. The schedule repeats, so that any position costs O(1).
#pragma once

#include <cstdint>
#include <vector>

namespace tessera::data {

class Blend {
 public:
  // Weights > 0. They are kept exactly when they are multiples of 1 / period for a period up to
  // kLargestPeriod, and rounded to 1 / kLargestPeriod otherwise. Error{config} for a weight that is
  // not a positive number or too small beside the others.
  explicit Blend(const std::vector<double>& weights);

  struct Draw {
    std::size_t source = 0;
    std::int64_t index = 0;  // the source's draws before this one
  };
  Draw at(std::int64_t position) const;  // position >= 0

  // Draws of each source in positions 0 .. positions - 1.
  std::vector<std::int64_t> draws(std::int64_t positions) const;
  // Positions until `draws` (>= 1) draws of a source are done.
  std::int64_t positions_for(std::size_t source, std::int64_t draws) const;

  std::int64_t period() const { return static_cast<std::int64_t>(slots_.size()); }
  const std::vector<std::int64_t>& parts() const { return parts_; }  // of the period, a source

  static constexpr std::int64_t kLargestPeriod = std::int64_t{1} << 20;

 private:
  struct Slot {
    std::uint32_t source = 0, index = 0;  // index within the period
  };
  std::vector<std::int64_t> parts_;
  std::vector<Slot> slots_;
};

}  // namespace tessera::data
