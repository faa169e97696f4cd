// Rows into a cache, and attention of one row a sequence over it, against the definition.
#include "kernels/cache_rows.h"
#include "kernels/decode_attention.h"
#include "tests/kernels/decoding_cases.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class DecodingTest : public ::testing::Test {};
TYPED_TEST_SUITE(DecodingTest, Types);

template <typename T>
std::vector<T> narrow(const std::vector<double>& x) {
  return std::vector<T>(x.begin(), x.end());
}

TYPED_TEST(DecodingTest, AttendsToWhatLiesBeforeAndStoresTheRow) {
  using T = TypeParam;
  for (const auto& [s, h, d, r, longest, gap] :
       std::vector<std::array<Index, 6>>{{1, 1, 8, 2, 1, 0},
                                         {3, 2, 16, 4, 5, 0},
                                         {5, 3, 32, 8, 70, 3},
                                         {2, 1, 64, 64, 300, 0},
                                         {2, 2, 24, 0, 9, 1}}) {
    DecodingCase c(s, h, d, r, longest, gap);
    std::vector<T> qkv = narrow<T>(c.qkv), keys = narrow<T>(c.keys), values = narrow<T>(c.values);
    const std::vector<T> cos = narrow<T>(c.cos), sin = narrow<T>(c.sin);
    std::vector<T> out(static_cast<std::size_t>(s * h * d), static_cast<T>(kNan));
    DecodeAttention<T> a;
    a.sequences = s, a.heads = h, a.head_size = d, a.rotary = r, a.longest = longest;
    a.cos = cos.data(), a.sin = sin.data(), a.positions = c.positions.data();
    a.qkv = qkv.data(), a.qkv_row = c.qkv_row();
    a.keys = keys.data(), a.values = values.data();
    a.cache_sequence = longest * c.row(), a.cache_row = c.row(), a.out = out.data();
    decode_attention(Queue{}, a);
    const std::vector<double> expected = c.attend([](double x) { return x; });
    expect_near(out, expected, tolerance<T>(longest), "out");
    // The new rows are there, and nothing else has changed (NaN stays NaN).
    for (std::size_t i = 0; i < keys.size(); ++i) {
      ASSERT_EQ(std::isnan(keys[i]), std::isnan(c.keys[i])) << i;
      if (std::isnan(c.keys[i])) continue;
      ASSERT_NEAR(double(keys[i]), c.keys[i], 1e-5);
      ASSERT_NEAR(double(values[i]), c.values[i], 1e-5);
    }
    EXPECT_EQ(qkv, narrow<T>(c.qkv));
  }
}

// One position for all is the same as a list of it.
TYPED_TEST(DecodingTest, TakesOnePositionForAll) {
  using T = TypeParam;
  DecodingCase c(3, 2, 16, 4, 6);
  for (auto& p : c.positions) p = 3;
  for (auto* cache : {&c.keys, &c.values}) *cache = normal<double>(Index(cache->size()), "cache");
  const std::vector<T> cos = narrow<T>(c.cos), sin = narrow<T>(c.sin), qkv = narrow<T>(c.qkv);
  std::vector<std::vector<T>> outs;
  for (const bool list : {true, false}) {
    std::vector<T> keys = narrow<T>(c.keys), values = narrow<T>(c.values), out(3 * 2 * 16);
    DecodeAttention<T> a;
    a.sequences = 3, a.heads = 2, a.head_size = 16, a.rotary = 4, a.longest = 6;
    a.cos = cos.data(), a.sin = sin.data(), a.positions = list ? c.positions.data() : nullptr;
    a.position = 3, a.qkv = qkv.data(), a.qkv_row = c.qkv_row();
    a.keys = keys.data(), a.values = values.data();
    a.cache_sequence = 6 * c.row(), a.cache_row = c.row(), a.out = out.data();
    decode_attention(Queue{}, a);
    outs.push_back(out);
  }
  EXPECT_EQ(outs[0], outs[1]);
}

TYPED_TEST(DecodingTest, CacheRowsRotatesAndStores) {
  using T = TypeParam;
  for (const auto& [windows, length, h, d, r, first] : std::vector<std::array<Index, 6>>{
           {1, 1, 1, 8, 2, 0}, {3, 7, 2, 16, 4, 5}, {2, 5, 3, 24, 0, 1}}) {
    const Index capacity = length + 2, row = h * d + 3;
    DecodingCase tables(1, 1, d, r, length + first);
    const std::vector<double> before = normal<double>(windows * length * 3 * h * d, "rows");
    std::vector<T> qkv = narrow<T>(before),
                   keys(static_cast<std::size_t>(windows * capacity * row), T{5}), values = keys;
    const std::vector<T> cos = narrow<T>(tables.cos), sin = narrow<T>(tables.sin);
    CacheRows<T> a;
    a.windows = windows, a.length = length, a.heads = h, a.head_size = d, a.rotary = r;
    a.first_position = first, a.cos = cos.data(), a.sin = sin.data(), a.qkv = qkv.data();
    a.keys = keys.data(), a.values = values.data();
    a.cache_window = capacity * row, a.cache_row = row;
    cache_rows(Queue{}, a);
    std::vector<double> k(keys.size(), 5), v = k, rotated = before;
    for (Index w = 0; w < windows; ++w)
      for (Index i = 0; i < length; ++i)
        for (Index j = 0; j < h; ++j) {
          const Index at = ((w * length + i) * h + j) * 3 * d,
                      to = (w * capacity + i) * row + j * d;
          for (const Index part : {Index{0}, d}) {
            const auto x = tables.rotated(before.data() + at + part, first + i);
            std::copy(x.begin(), x.end(), rotated.begin() + at + part);
          }
          std::copy_n(rotated.begin() + at + d, d, k.begin() + to);
          std::copy_n(before.begin() + at + 2 * d, d, v.begin() + to);
        }
    expect_near(qkv, rotated, tolerance<T>(), "qkv");
    expect_near(keys, k, tolerance<T>(), "keys");
    expect_near(values, v, tolerance<T>(), "values");
  }
}

}  // namespace
}  // namespace tessera::kernels::check
