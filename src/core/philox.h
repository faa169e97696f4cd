// Philox4x32-10 (Salmon et al., SC 2011) for the host and for CUDA device code: core/random.h says
// what it is used for.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define TESSERA_PHILOX_SIDES __host__ __device__
#else
#define TESSERA_PHILOX_SIDES
#endif

namespace tessera {

struct PhiloxBlock {
  std::uint32_t x[4];
};

// 128 random bits for a 128-bit counter and a 64-bit key.
TESSERA_PHILOX_SIDES inline PhiloxBlock philox_block(PhiloxBlock c, std::uint32_t key0,
                                                     std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = 0xD2511F53ull * c.x[0];
    const std::uint64_t product1 = 0xCD9E8D57ull * c.x[2];
    c = {{static_cast<std::uint32_t>(product1 >> 32) ^ c.x[1] ^ key0,
          static_cast<std::uint32_t>(product1),
          static_cast<std::uint32_t>(product0 >> 32) ^ c.x[3] ^ key1,
          static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

// CounterRandom(seed, stream)'s block `index`, and its uniform number in [0, 1).
TESSERA_PHILOX_SIDES inline PhiloxBlock counter_block(std::uint64_t seed, std::uint64_t stream,
                                                      std::uint64_t index) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  return philox_block({{low(index), low(index >> 32), low(stream), low(stream >> 32)}}, low(seed),
                      low(seed >> 32));
}
TESSERA_PHILOX_SIDES inline double unit_interval(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t bits = (static_cast<std::uint64_t>(high) << 32 | low) >> 11;
  return static_cast<double>(bits) * (1.0 / 9007199254740992.0);  // 2^-53
}
TESSERA_PHILOX_SIDES inline double counter_uniform(std::uint64_t seed, std::uint64_t stream,
                                                   std::uint64_t index) {
  const PhiloxBlock b = counter_block(seed, stream, index);
  return unit_interval(b.x[0], b.x[1]);
}

}  // namespace tessera

#undef TESSERA_PHILOX_SIDES
