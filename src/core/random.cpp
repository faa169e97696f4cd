#include "core/random.h"

#include <cmath>

#include "core/philox.h"

namespace tessera {
namespace {

constexpr double kTwoPi = 6.283185307179586476925286766559;

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c,
                                    std::array<std::uint32_t, 2> k) {
  const PhiloxBlock b = philox_block({{c[0], c[1], c[2], c[3]}}, k[0], k[1]);
  return {b.x[0], b.x[1], b.x[2], b.x[3]};
}

std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

std::array<std::uint32_t, 4> CounterRandom::block(std::uint64_t index) const {
  const PhiloxBlock b = counter_block(seed_, stream_, index);
  return {b.x[0], b.x[1], b.x[2], b.x[3]};
}

std::uint64_t CounterRandom::bits(std::uint64_t index) const {
  const auto b = block(index);
  return static_cast<std::uint64_t>(b[0]) << 32 | b[1];
}

double CounterRandom::uniform(std::uint64_t index) const {
  return counter_uniform(seed_, stream_, index);
}

double CounterRandom::normal(std::uint64_t index) const {
  const auto b = block(index);
  const double radius = std::sqrt(-2.0 * std::log(1.0 - unit_interval(b[0], b[1])));
  return radius * std::cos(kTwoPi * unit_interval(b[2], b[3]));
}

}  // namespace tessera
