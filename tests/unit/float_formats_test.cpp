// Conversions between float32 and the 16-bit formats, over every 16-bit value and at the ties.
#include "core/float_formats.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(FloatFormats, EveryHalfSurvivesTheWayThroughFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = f16_to_float(half);
    if ((half & 0x7fff) > 0x7c00) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(value)))) << bits;
    } else {
      EXPECT_EQ(float_to_f16(value), half) << bits;
    }
  }
}

TEST(FloatFormats, EveryBrainFloatSurvivesTheWayThroughFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto brain = static_cast<std::uint16_t>(bits);
    const float value = bf16_to_float(brain);
    if ((brain & 0x7fff) > 0x7f80)
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << bits;
    else
      EXPECT_EQ(float_to_bf16(value), brain) << bits;
  }
}

TEST(FloatFormats, HalfValuesAreWhatIeee754Says) {
  EXPECT_EQ(f16_to_float(0x3c00), 1.0f);
  EXPECT_EQ(f16_to_float(0xc000), -2.0f);
  EXPECT_EQ(f16_to_float(0x7bff), 65504.0f);
  EXPECT_EQ(f16_to_float(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(f16_to_float(0x0400), std::ldexp(1.0f, -14));
  EXPECT_EQ(f16_to_float(0x7c00), std::numeric_limits<float>::infinity());
}

// Each midpoint between neighbours goes to the even one, and the floats beside it to the nearer.
TEST(FloatFormats, HalfRoundsToNearestEven) {
  for (std::uint16_t half = 0; half < 0x7bff; ++half) {
    const float low = f16_to_float(half), high = f16_to_float(static_cast<std::uint16_t>(half + 1));
    const float middle = low + (high - low) / 2;  // exact in float32
    const auto even = static_cast<std::uint16_t>(half + (half & 1));
    ASSERT_EQ(float_to_f16(middle), even) << half;
    ASSERT_EQ(float_to_f16(-middle), even | 0x8000) << half;
    ASSERT_EQ(float_to_f16(std::nextafter(middle, low)), half) << half;
    ASSERT_EQ(float_to_f16(std::nextafter(middle, high)), half + 1) << half;
  }
  EXPECT_EQ(float_to_f16(65519.99f), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_f16(1e-30f), 0);
  EXPECT_EQ(float_to_f16(-1e-30f), 0x8000);
}

TEST(FloatFormats, BrainFloatRoundsToNearestEven) {
  for (std::uint16_t brain = 0; brain < 0x7f7f; ++brain) {
    const std::uint32_t low = static_cast<std::uint32_t>(brain) << 16;
    const float middle = std::bit_cast<float>(low | 0x8000u);
    ASSERT_EQ(float_to_bf16(middle), brain + (brain & 1)) << brain;
    ASSERT_EQ(float_to_bf16(-middle), (brain + (brain & 1)) | 0x8000) << brain;
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(low | 0x7fffu)), brain) << brain;
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(low | 0x8001u)), brain + 1) << brain;
  }
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace tessera
