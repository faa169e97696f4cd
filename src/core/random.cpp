#include "core/random.h"

#include <cmath>

namespace tessera {
namespace {

constexpr double kTwoPi = 6.283185307179586476925286766559;

double to_unit(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t bits = (static_cast<std::uint64_t>(high) << 32 | low) >> 11;
  return static_cast<double>(bits) * 0x1.0p-53;
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c,
                                    std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = 0xD2511F53ull * c[0];
    const std::uint64_t product1 = 0xCD9E8D57ull * c[2];
    c = {static_cast<std::uint32_t>(product1 >> 32) ^ c[1] ^ k[0],
         static_cast<std::uint32_t>(product1),
         static_cast<std::uint32_t>(product0 >> 32) ^ c[3] ^ k[1],
         static_cast<std::uint32_t>(product0)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

std::array<std::uint32_t, 4> CounterRandom::block(std::uint64_t index) const {
  return philox({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                 static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
}

std::uint64_t CounterRandom::bits(std::uint64_t index) const {
  const auto b = block(index);
  return static_cast<std::uint64_t>(b[0]) << 32 | b[1];
}

double CounterRandom::uniform(std::uint64_t index) const {
  const auto b = block(index);
  return to_unit(b[0], b[1]);
}

double CounterRandom::normal(std::uint64_t index) const {
  const auto b = block(index);
  const double radius = std::sqrt(-2.0 * std::log(1.0 - to_unit(b[0], b[1])));
  return radius * std::cos(kTwoPi * to_unit(b[2], b[3]));
}

}  // namespace tessera
