// Kept apart from any state: the whole permutation is arithmetic on (seed, epoch, index).
#include "data/sample_order.h"

#include <bit>
#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace tessera::data {
namespace {

// Four rounds already give a pseudo-random permutation (Luby & Rackoff 1988); the margin is cheap.
constexpr std::uint32_t kRounds = 8;

// Feistel network on 2 * half_bits bits; the round function is one Philox block keyed by the seed,
// its counter (half, round, epoch).
std::uint64_t scramble(std::uint64_t value, unsigned half_bits, std::uint64_t epoch,
                       std::array<std::uint32_t, 2> key) {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t left = value >> half_bits, right = value & mask;
  for (std::uint32_t round = 0; round < kRounds; ++round) {
    const auto block =
        philox({static_cast<std::uint32_t>(right), round, static_cast<std::uint32_t>(epoch),
                static_cast<std::uint32_t>(epoch >> 32)},
               key);
    left = std::exchange(right, (left ^ block[0]) & mask);
  }
  return left << half_bits | right;
}

}  // namespace

std::int64_t SampleOrder::at(std::int64_t position) const {
  TESSERA_CHECK(samples_ >= 1 && position >= 0);
  const auto n = static_cast<std::uint64_t>(samples_);
  const std::uint64_t epoch = static_cast<std::uint64_t>(position) / n;
  std::uint64_t value = static_cast<std::uint64_t>(position) % n;
  // The smallest power of four that holds 0..n-1: less than four tries on average.
  const unsigned half_bits = (static_cast<unsigned>(std::bit_width(n - 1)) + 1) / 2;
  if (half_bits == 0) return 0;
  const std::uint64_t seed = seed_ ^ hash_name("data.sample_order");
  const std::array<std::uint32_t, 2> key = {static_cast<std::uint32_t>(seed),
                                            static_cast<std::uint32_t>(seed >> 32)};
  do value = scramble(value, half_bits, epoch, key);
  while (value >= n);
  return static_cast<std::int64_t>(value);
}

}  // namespace tessera::data
