// Decoding on the GPU: rows into a cache, attention of one row a sequence, choosing tokens.
#include <array>
#include <set>

#include "kernels/cache_rows.h"
#include "kernels/decode_attention.h"
#include "kernels/sample.h"
#include "tests/kernels/decoding_cases.h"
#include "tests/kernels/gpu/gpu_check.h"
#include "tests/kernels/sample_cases.h"

namespace tessera::kernels::gpu {
namespace {

using check::DecodingCase;
using check::SampleCase;
using Index = std::int64_t;

// A queue on the default stream with room for split contexts.
struct Device {
  DeviceArray<std::byte> workspace{16 << 20};
  Queue queue;
  Device() {
    queue.device = tessera::Device::cuda;
    queue.workspace = workspace.get();
    queue.workspace_bytes = workspace.count();
  }
};

template <typename T>
std::vector<T> typed(const std::vector<double>& x) {
  std::vector<T> y;
  for (const double v : x) y.push_back(from_double<T>(v));
  return y;
}
std::vector<float> floats(const std::vector<double>& x) {
  return std::vector<float>(x.begin(), x.end());
}

template <typename T>
class DecodingGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) GTEST_SKIP() << "no CUDA device";
  }
};
using DecodingTypes = ::testing::Types<float, bf16>;
TYPED_TEST_SUITE(DecodingGpu, DecodingTypes);

TYPED_TEST(DecodingGpu, AttentionMatchesFloat64) {
  using T = TypeParam;
  Device device;
  for (const auto& [s, h, d, r, longest, gap] :
       std::vector<std::array<Index, 6>>{{1, 1, 8, 2, 1, 0},
                                         {3, 2, 16, 4, 5, 0},
                                         {37, 12, 64, 16, 5, 0},
                                         {5, 3, 32, 8, 70, 8},
                                         {2, 1, 64, 64, 300, 0},
                                         {2, 2, 24, 0, 9, 1},
                                         {1, 12, 64, 16, 2112, 0},
                                         {9, 5, 128, 32, 530, 0},
                                         {3, 2, 256, 64, 129, 0},
                                         {70, 16, 64, 16, 600, 0},
                                         {2, 3, 48, 12, 700, 3},
                                         {1, 1, 40, 10, 16, 0},
                                         {33, 7, 128, 32, 12, 0}}) {
    DecodingCase c(s, h, d, r, longest, gap);
    const auto q = typed<T>(c.qkv), k = typed<T>(c.keys), v = typed<T>(c.values);
    c.qkv = widen(q), c.keys = widen(k), c.values = widen(v);
    DeviceArray<T> qkv(q), keys(k), values(v), out(s * h * d);
    DeviceArray<float> cos(floats(c.cos)), sin(floats(c.sin));
    DeviceArray<std::int32_t> positions(c.positions);
    DecodeAttention<T> a;
    a.sequences = s, a.heads = h, a.head_size = d, a.rotary = r, a.longest = longest;
    a.cos = cos.get(), a.sin = sin.get(), a.positions = positions.get();
    a.qkv = qkv.get(), a.qkv_row = c.qkv_row();
    a.keys = keys.get(), a.values = values.get();
    a.cache_sequence = longest * c.row(), a.cache_row = c.row(), a.out = out.get();
    decode_attention(device.queue, a);
    const auto expected =
        c.attend([](double x) { return static_cast<double>(to_float(from_double<T>(x))); });
    const auto found = out.host();
    EXPECT_LT(relative_error(found, expected), 2 * kRounding<T> + 1e-6)
        << s << " x " << h << " x " << d << " x " << longest;
    const auto new_keys = widen(keys.host()), new_values = widen(values.host());
    for (Index b = 0; b < s; ++b)
      for (Index j = 0; j < longest; ++j)
        for (Index x = 0; x < h * d; ++x) {
          const auto at = c.at(b, j, x);
          if (j > c.positions[static_cast<std::size_t>(b)]) {
            ASSERT_TRUE(std::isnan(new_keys[at]) && std::isnan(new_values[at]));
          } else {
            ASSERT_NEAR(new_keys[at], c.keys[at], 4 * kRounding<T> * (1 + std::abs(c.keys[at])));
            ASSERT_EQ(new_values[at], c.values[at]);
          }
        }
    decode_attention(device.queue, a);  // storing the same row again changes nothing
    const auto again = out.host();
    ASSERT_EQ(std::memcmp(again.data(), found.data(), found.size() * sizeof(T)), 0);
    // A row's result does not depend on the others' contents.
    if (s < 3) continue;
    DeviceArray<std::int32_t> other(std::vector<std::int32_t>(static_cast<std::size_t>(s), 0));
    EXPECT_EQ(
        cudaMemcpy(other.get(), c.positions.data(), sizeof(std::int32_t), cudaMemcpyHostToDevice),
        cudaSuccess);
    a.positions = other.get();
    decode_attention(device.queue, a);
    const auto alone = out.host();
    ASSERT_EQ(std::memcmp(alone.data(), found.data(), static_cast<std::size_t>(h * d) * sizeof(T)),
              0);
  }
}

TYPED_TEST(DecodingGpu, CacheRowsMatchesFloat64) {
  using T = TypeParam;
  Device device;
  for (const auto& [windows, length, h, d, r, first] :
       std::vector<std::array<Index, 6>>{{1, 1, 1, 8, 2, 0},
                                         {3, 7, 2, 16, 4, 5},
                                         {2, 5, 3, 24, 0, 1},
                                         {4, 130, 12, 64, 16, 0},
                                         {2, 9, 4, 128, 32, 0},
                                         {2, 9, 3, 20, 6, 2}}) {
    const Index capacity = length + 2, row = h * d;
    DecodingCase tables(1, 1, d, r, length + first);
    const Values<T> before(windows * length * 3 * h * d, 3);
    DeviceArray<T> qkv(before.typed), keys(windows * capacity * row),
        values(windows * capacity * row);
    DeviceArray<float> cos(floats(tables.cos)), sin(floats(tables.sin));
    CacheRows<T> a;
    a.windows = windows, a.length = length, a.heads = h, a.head_size = d, a.rotary = r;
    a.first_position = first, a.cos = cos.get(), a.sin = sin.get(), a.qkv = qkv.get();
    a.keys = keys.get(), a.values = values.get();
    a.cache_window = capacity * row, a.cache_row = row;
    cache_rows(device.queue, a);
    const auto k = keys.host(), v = values.host(), rotated = qkv.host();
    for (Index w = 0; w < windows; ++w)
      for (Index i = 0; i < capacity; ++i)
        for (Index j = 0; j < h; ++j)
          for (Index x = 0; x < d; ++x) {
            const auto to = static_cast<std::size_t>((w * capacity + i) * row + j * d + x);
            if (i >= length) {
              ASSERT_TRUE(std::isnan(to_float(k[to])) && std::isnan(to_float(v[to])));
              continue;
            }
            const Index at = ((w * length + i) * h + j) * 3 * d;
            const double* const from = before.as_double.data() + at;
            const auto n = static_cast<std::size_t>(x);
            const double q_new = tables.rotated(from, first + i)[n];
            const double k_new = tables.rotated(from + d, first + i)[n];
            const double slack = 2 * kRounding<T>;
            ASSERT_NEAR(to_float(rotated[static_cast<std::size_t>(at) + n]), q_new,
                        slack * (1 + std::abs(q_new)));
            ASSERT_NEAR(to_float(k[to]), k_new, slack * (1 + std::abs(k_new)));
            ASSERT_EQ(to_float(rotated[static_cast<std::size_t>(at + d) + n]), to_float(k[to]));
            ASSERT_EQ(to_float(v[to]), from[2 * d + x]);
          }
  }
}

// The case on the device; its books come back into it.
template <typename T>
void run(SampleCase<T>& c) {
  DeviceArray<T> logits(c.logits);
  DeviceArray<std::uint8_t> allowed(c.allowed), ended(c.ended);
  DeviceArray<std::int64_t> prompts(c.prompts);
  DeviceArray<std::int32_t> forced(c.forced), tokens(c.tokens), produced(c.produced),
      outputs(c.outputs), positions(c.positions);
  Sample<T> a = c.arguments();
  a.logits = logits.get(), a.allowed = c.allowed.empty() ? nullptr : allowed.get();
  a.prompts = prompts.get(), a.forced = c.forced.empty() ? nullptr : forced.get();
  a.tokens = tokens.get(), a.produced = produced.get(), a.outputs = outputs.get();
  a.ended = ended.get(), a.positions = positions.get();
  Device device;
  sample(device.queue, a);
  c.tokens = tokens.host(), c.produced = produced.host(), c.outputs = outputs.host();
  c.ended = ended.host(), c.positions = positions.host();
}

// The CPU's choice of the same numbers.
template <typename T>
SampleCase<float> on_host(const SampleCase<T>& c) {
  SampleCase<float> h;
  h.rows = c.rows, h.vocab = c.vocab, h.stride = c.stride;
  for (const T& z : c.logits) h.logits.push_back(to_float(z));
  h.allowed = c.allowed, h.temperature = c.temperature, h.top_p = c.top_p, h.top_k = c.top_k;
  h.seed = c.seed, h.prompts = c.prompts, h.forced = c.forced, h.tokens = c.tokens;
  h.produced = c.produced, h.outputs = c.outputs, h.positions = c.positions, h.ended = c.ended;
  h.width = c.width, h.limit = c.limit, h.end_id = c.end_id;
  sample<float>(Queue{}, h.arguments());
  return h;
}

// The device chooses what the CPU chooses: weights are the same whole numbers on both sides.
template <typename T>
void expect_as_on_host(SampleCase<T>& c, const std::string& what) {
  const SampleCase<float> expected = on_host(c);
  run(c);
  EXPECT_EQ(c.tokens, expected.tokens) << what;
  EXPECT_EQ(c.produced, expected.produced) << what;
  EXPECT_EQ(c.outputs, expected.outputs) << what;
  EXPECT_EQ(c.ended, expected.ended) << what;
  EXPECT_EQ(c.positions, expected.positions) << what;
}

TYPED_TEST(DecodingGpu, SampleEqualsTheCpuInTokensAndBooks) {
  using T = TypeParam;
  for (const Index vocab : {1, 5, 257, 4096, 50304}) {
    for (const Index gap : {0, 3}) {
      for (const auto& [temperature, top_k, top_p] :
           std::vector<std::tuple<double, Index, double>>{{0.0, 0, 1.0},
                                                          {1.0, 0, 1.0},
                                                          {0.7, 40, 1.0},
                                                          {1.0, 0, 0.9},
                                                          {2.0, 100, 0.5},
                                                          {1.0, 1, 1.0},
                                                          {1.0, 0, 1e-9}}) {
        SampleCase<T> c;
        c.rows = vocab > 10000 ? 6 : 40, c.vocab = vocab, c.stride = vocab + gap;
        c.logits = Values<T>(c.rows * c.stride, 5, 2).typed;  // bf16: many ties
        c.temperature = temperature, c.top_k = top_k, c.top_p = top_p;
        if (gap > 0 && vocab > 5)
          for (Index i = 0; i < vocab; ++i) c.allowed.push_back(i % 3 != 1);
        c.prepare();
        for (Index r = 0; r < c.rows; ++r) {
          c.forced.push_back(r % 5 == 3 ? 0 : -1);
          c.produced[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(r % 7);
          c.ended[static_cast<std::size_t>(r)] = r % 11 == 4;
        }
        c.end_id = 2, c.limit = 7;
        expect_as_on_host(c, std::to_string(vocab) + " " + std::to_string(temperature) + " " +
                                 std::to_string(top_k) + " " + std::to_string(top_p));
      }
    }
  }
}

// Thousands of equals where a cut falls, rows beyond shared memory, and rows whose sums need 64
// bits.
TYPED_TEST(DecodingGpu, SampleCutsAmongEqualsAndInLongRows) {
  using T = TypeParam;
  for (const Index vocab : {5000, 50304, 130001, 300000})
    for (const int distinct : {1, 3, 40})
      for (const auto& [temperature, top_k, top_p] : std::vector<std::tuple<double, Index, double>>{
               {1.0, 2500, 1.0}, {1.0, 0, 0.6}, {0.05, 100, 0.9}, {1.0, 0, 1.0}}) {
        SampleCase<T> c;
        c.rows = 2, c.vocab = c.stride = vocab;
        const Values<T> values(c.rows * vocab, 9, 1);
        std::vector<double> logits;
        for (const double z : values.as_double)
          logits.push_back(std::floor(z * distinct) / distinct);
        if (distinct == 1) logits.assign(logits.size(), -1.5);
        c.logits = typed<T>(logits);
        c.temperature = temperature, c.top_k = top_k, c.top_p = top_p;
        c.prepare();
        expect_as_on_host(c, std::to_string(vocab) + " " + std::to_string(distinct) + " " +
                                 std::to_string(top_k) + " " + std::to_string(top_p));
      }
}

TYPED_TEST(DecodingGpu, SampleTakesInfinitiesTiesAndNans) {
  using T = TypeParam;
  const auto greedy = [](std::vector<double> z) {
    SampleCase<T> c = SampleCase<T>::repeated(typed<T>(z), 1);
    run(c);
    return c.tokens[0];
  };
  const double inf = INFINITY, nan = NAN;
  EXPECT_EQ(greedy({1, 3, 3}), 1);
  EXPECT_EQ(greedy({-inf, -inf}), 0);
  EXPECT_EQ(greedy({1, inf, 2, inf}), 1);
  EXPECT_EQ(greedy({nan, -5, nan}), 1);
  EXPECT_EQ(greedy({-0.0, 0.0}), 0);
  SampleCase<T> all = SampleCase<T>::repeated(typed<T>({-inf, -inf, -inf}), 300);
  all.temperature = 1;
  run(all);
  std::set<std::int32_t> seen(all.tokens.begin(), all.tokens.end());
  EXPECT_EQ(seen.size(), 3u);
}

// 5 degrees of freedom, 99.99 % point 25.7.
TYPED_TEST(DecodingGpu, SampleFrequenciesFollowTheSoftmax) {
  using T = TypeParam;
  const std::vector<double> logits = {0.5, -1, 2, 0, 1, -3};
  for (const double temperature : {0.7, 1.0, 2.0}) {
    SampleCase<T> c = SampleCase<T>::repeated(typed<T>(logits), 200000);
    c.temperature = temperature;
    run(c);
    std::vector<std::int64_t> counts(6);
    for (const std::int32_t token : c.tokens) ++counts[static_cast<std::size_t>(token)];
    EXPECT_LT(check::chi_square(counts, check::softmax(logits, temperature)), 25.7) << temperature;
  }
}

}  // namespace
}  // namespace tessera::kernels::gpu
