// bfloat16 casts: rounding against arithmetic in double, special values, the way back.
#include "kernels/cast.h"

#include <bit>

#include "tests/kernels/cast_values.h"
#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

float widened(std::uint16_t half) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16);
}

TEST(Cast, RoundsToNearestWithTiesToEven) {
  const std::vector<float> values = cast_values();
  std::vector<std::uint16_t> halves(values.size());
  cast_to_bf16(Queue{},
               CastToBf16{static_cast<Index>(values.size()), values.data(), halves.data()});
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float x = values[i], y = widened(halves[i]);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(y));
      ASSERT_EQ(std::signbit(x), std::signbit(y));
      continue;
    }
    // The two neighbours by truncation; the nearer one, or the even one at a tie. Beyond the
    // largest finite value the next step counts as one more unit, as for every other value.
    const auto down = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
    const double low = widened(down);
    if (!std::isfinite(x) || low == x) {
      ASSERT_EQ(halves[i], down) << x;
      continue;
    }
    const double unit = low - double{widened(static_cast<std::uint16_t>(down - 1))};
    const bool least = (down & 0x7fffu) == 0, power = (down & 0x7fu) == 0;
    const double gap = least   ? double{widened(static_cast<std::uint16_t>(down + 1))}
                       : power ? (std::abs(low) > 2e-38 ? 2 * unit : unit)
                               : unit;
    const double part = (double{x} - low) / gap;
    const bool up = part > 0.5 || (part == 0.5 && down % 2 == 1);
    ASSERT_EQ(halves[i], up ? down + 1 : down) << x;
  }
}

TEST(Cast, TheWayBackIsExactForEveryHalf) {
  std::vector<std::uint16_t> halves(0x10000), again(halves.size());
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> values(halves.size());
  cast_from_bf16(Queue{}, CastFromBf16{0x10000, halves.data(), values.data()});
  cast_to_bf16(Queue{}, CastToBf16{0x10000, values.data(), again.data()});
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const bool nan = std::isnan(values[i]);
    EXPECT_EQ(again[i], nan ? halves[i] | 0x40 : halves[i]);
  }
}

TEST(Cast, WritesNothingBeyondTheCount) {
  for (const Index count : {0, 1, 7, 17, 31}) {
    const auto from = normal<float>(40, "from");
    std::vector<std::uint16_t> to(40, 7);
    cast_to_bf16(Queue{}, CastToBf16{count, from.data(), to.data()});
    for (Index i = count; i < 40; ++i) EXPECT_EQ(to[static_cast<std::size_t>(i)], 7);
  }
}

}  // namespace
}  // namespace tessera::kernels::check
