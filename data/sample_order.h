// The order of training samples: a pure function of (seed, epoch, index) in O(1) memory.
//
// Position i of epoch e holds sample permute(seed, e, i): a keyed permutation of 0..n-1, a balanced
// Feistel network on the next power of four, cycle-walked back into range (Black & Rogaway 2002).
// Position g of the whole run is epoch g / n, index g mod n. So an optimizer step, a resume and any
// number of ranks agree without sharing state: step s (from 0) with global batch G takes positions
// s G .. (s + 1) G - 1.
#pragma once

#include <cstdint>

namespace tessera::data {

class SampleOrder {
 public:
  // n samples an epoch, n >= 1.
  SampleOrder(std::uint64_t seed, std::int64_t samples) : seed_(seed), samples_(samples) {}
  // Sample at a global position >= 0.
  std::int64_t at(std::int64_t position) const;
  std::int64_t samples() const { return samples_; }

 private:
  std::uint64_t seed_;
  std::int64_t samples_;
};

}  // namespace tessera::data
