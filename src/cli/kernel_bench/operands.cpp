#include "cli/kernel_bench/operands.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "core/random.h"

namespace tessera::cli {
namespace {

constexpr std::uint64_t kSeed = 11;
// Elements of a pattern: no multiple of a usual row length, so rows differ.
constexpr std::int64_t kPattern = 64 * 4099;
// Fills start at different multiples of this, so operands differ; keeps copies aligned.
constexpr std::int64_t kShift = 64 * 61;

template <typename T>
T rounded(double value) {
  const auto wide = static_cast<float>(value);
  if constexpr (std::is_same_v<T, kernels::bf16>) {
    const auto bits = std::bit_cast<std::uint32_t>(wide);
    return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  } else {
    return wide;
  }
}

}  // namespace

template <typename T>
void RandomNumbers::fill(T* to, std::int64_t count, Spread spread) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  OwnedMemory& pattern = patterns_[{sizeof(T), spread.deviation, spread.mean}];
  if (!pattern) {
    const CounterRandom random(kSeed, patterns_.size());
    std::vector<T> host;
    for (std::int64_t i = 0; i < kPattern; ++i)
      host.push_back(rounded<T>(spread.mean +
                                spread.deviation * random.normal(static_cast<std::uint64_t>(i))));
    pattern = OwnedMemory(allocate_memory(device_, kPattern * kSize), FreeMemory{device_});
    upload(device_, pattern.get(), host.data(), kPattern * kSize, stream_);
  }
  const std::int64_t start = fills_++ * kShift % (kPattern / 2);
  const auto* from = reinterpret_cast<const T*>(pattern.get()) + start;
  std::int64_t done = std::min(count, kPattern - start);
  copy_memory(device_, to, from, done * kSize, stream_);
  while (done < count) {
    const std::int64_t next = std::min(done, count - done);
    copy_memory(device_, to + done, to, next * kSize, stream_);
    done += next;
  }
}

template void RandomNumbers::fill(float*, std::int64_t, Spread);
template void RandomNumbers::fill(kernels::bf16*, std::int64_t, Spread);

std::byte* Operands::allocate(std::int64_t bytes) {
  const Device device = numbers_.device();
  memory_.emplace_back(allocate_memory(device, bytes), FreeMemory{device});
  footprint_ += bytes;
  return memory_.back().get();
}

TokenIds token_ids(std::int64_t count, std::int64_t vocab) {
  const CounterRandom random(kSeed, hash_name("token ids"));
  TokenIds result;
  for (std::int64_t i = 0; i < count; ++i) {
    const double rank =
        std::pow(static_cast<double>(vocab), random.uniform(static_cast<std::uint64_t>(i)));
    result.ids.push_back(static_cast<std::int32_t>(
        std::min(vocab, static_cast<std::int64_t>(std::floor(rank))) - 1));
  }
  std::vector<std::int32_t> sorted = result.ids;
  std::sort(sorted.begin(), sorted.end());
  result.distinct = std::unique(sorted.begin(), sorted.end()) - sorted.begin();
  return result;
}

}  // namespace tessera::cli
