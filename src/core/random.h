// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A draw is a pure function of (seed, stream, index), so nothing depends on
// rank, thread or order. Safe to call from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tessera {

// One Philox4x32-10 block: 128 random bits for a 128-bit counter and a 64-bit key.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key);

// FNV-1a, 64 bits: turns a name (a parameter's, say) into a stream number. Never change it: runs
// are reproducible through it.
std::uint64_t hash_name(std::string_view name);

class CounterRandom {
 public:
  // `stream` separates uses of one seed: hash_name("..."), a sample number, ...
  CounterRandom(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  // 64 random bits for `index`.
  std::uint64_t bits(std::uint64_t index) const;
  // Uniform in [0, 1), 53 bits.
  double uniform(std::uint64_t index) const;
  // Standard normal by Box-Muller from the two uniforms of block `index`.
  double normal(std::uint64_t index) const;

 private:
  std::array<std::uint32_t, 4> block(std::uint64_t index) const;
  std::uint64_t seed_, stream_;
};

}  // namespace tessera
