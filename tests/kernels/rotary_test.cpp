// Rotary positions against the formula with float angles.
#include "kernels/rotary.h"

#include <array>

#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class RotaryTest : public ::testing::Test {};
TYPED_TEST_SUITE(RotaryTest, Types);

// The angle of pair j at a position as Hugging Face computes it, in float.
float angle(Index position, Index j, Index rotary, double base) {
  const float inverse = static_cast<float>(
      std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(rotary)));
  return static_cast<float>(position) * inverse;
}

TYPED_TEST(RotaryTest, TablesAreCosineAndSineOfFloatAngles) {
  using T = TypeParam;
  for (const Index rotary : {2, 6, 16, 64}) {
    std::vector<T> cosine(301 * rotary / 2), sine(cosine.size());
    rotary_tables(301, rotary, 10000.0, cosine.data(), sine.data());
    for (Index p = 0; p < 301; ++p)
      for (Index j = 0; j < rotary / 2; ++j) {
        const double a = angle(p, j, rotary, 10000.0);
        EXPECT_NEAR(cosine[p * rotary / 2 + j], std::cos(a), 1e-7);
        EXPECT_NEAR(sine[p * rotary / 2 + j], std::sin(a), 1e-7);
      }
  }
}

template <typename T>
struct Case {
  Index windows = 3, length = 5, heads = 3, head_size = 10, rotary = 6, first = 2;
  std::vector<T> cosine, sine, qkv;
  std::vector<std::int32_t> positions;

  Rotary<T> args(bool backward) {
    cosine.resize(64 * rotary / 2), sine.resize(cosine.size());
    rotary_tables(64, rotary, 10000.0, cosine.data(), sine.data());
    Rotary<T> a;
    a.rows = windows * length, a.heads = heads, a.head_size = head_size, a.rotary = rotary;
    a.length = length, a.first_position = first, a.cos = cosine.data(), a.sin = sine.data();
    a.qkv = qkv.data(), a.backward = backward;
    a.positions = positions.empty() ? nullptr : positions.data();
    return a;
  }
};

template <typename T>
void rotary_and_back(Case<T>& c, const std::vector<T>& before, const std::vector<double>& after) {
  rotary(Queue{}, c.args(false));
  expect_near(c.qkv, after, 1e-6, "rotated");  // tables are float in either type
  rotary(Queue{}, c.args(true));
  expect_near(c.qkv, wide(before), 1e-6, "rotated back");
}

TYPED_TEST(RotaryTest, RotatesTheFirstComponentsOfQueriesAndKeys) {
  using T = TypeParam;
  for (const auto& [heads, d, rotary] : std::vector<std::array<Index, 3>>{
           {1, 2, 2}, {3, 10, 6}, {2, 64, 16}, {1, 34, 34}, {2, 8, 0}})
    for (const bool listed : {false, true}) {
      Case<T> c;
      c.heads = heads, c.head_size = d, c.rotary = rotary;
      const Index rows = c.windows * c.length;
      const auto before = normal<T>(rows * heads * 3 * d, "qkv");
      if (listed) c.positions = integers(rows, 64, "positions");
      c.qkv = before;
      std::vector<double> expected = wide(before);
      for (Index r = 0; r < rows; ++r)
        for (Index h = 0; h < heads; ++h)
          for (Index part = 0; part < 2; ++part)
            for (Index j = 0; j < rotary / 2; ++j) {
              const Index at = ((r * heads + h) * 3 + part) * d + j;
              const Index position = listed ? c.positions[r] : c.first + r % c.length;
              const double a = angle(position, j, rotary, 10000.0);
              const double x = before[at], y = before[at + rotary / 2];
              expected[at] = x * std::cos(a) - y * std::sin(a);
              expected[at + rotary / 2] = y * std::cos(a) + x * std::sin(a);
            }
      rotary_and_back(c, before, expected);
    }
}

TEST(Rotary, BackwardIsTheTransposedRotation) {
  Case<double> c;
  const Index count = c.windows * c.length * c.heads * 3 * c.head_size;
  const auto x = normal<double>(count, "x"), dy = normal<double>(count, "dy");
  c.qkv = x;
  rotary(Queue{}, c.args(false));
  const double left = weighted(c.qkv, dy);
  c.qkv = dy;
  rotary(Queue{}, c.args(true));
  EXPECT_NEAR(weighted(c.qkv, x), left, 1e-12 * std::abs(left) + 1e-12);
}

}  // namespace
}  // namespace tessera::kernels::check
