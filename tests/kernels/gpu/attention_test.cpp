// General attention on the device, forward and backward, against the CPU's in double: decoding and
// prefill beside caches, every head size class, masks, strides that rule vectors out, float's fused
// training shape, passes over windows, equal bits.
#include "kernels/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/kernels/gpu/gpu_check.h"

namespace tessera::kernels::gpu {
namespace {

constexpr std::array<std::array<std::int64_t, 2>, 10> kLengths = {{{1, 1},
                                                                   {1, 7},
                                                                   {1, 513},
                                                                   {3, 129},
                                                                   {5, 5},
                                                                   {17, 40},
                                                                   {64, 64},
                                                                   {65, 130},
                                                                   {128, 128},
                                                                   {200, 333}}};
constexpr std::array<std::int64_t, 6> kHeadSizes = {16, 20, 48, 64, 128, 256};

// fused: one qkv matrix (queries = keys). cache: rows of whole vectors, heads of a cache apart.
// ragged: strides that are odd, a mask over everything but the last window.
enum class Layout { fused, cache, masked, ragged };

std::string name(Layout layout) {
  constexpr std::array<const char*, 4> kNames = {"fused", "cache", "masked", "ragged"};
  return kNames[static_cast<std::size_t>(layout)];
}

AttentionShape shape_of(Layout layout, std::int64_t queries, std::int64_t keys, std::int64_t d) {
  constexpr std::int64_t kWindows = 2, kHeads = 3;
  if (layout == Layout::fused) return fused_attention_shape(kWindows, queries, kHeads, d);
  const std::int64_t odd = layout == Layout::ragged ? 1 : 0;
  AttentionShape s;
  s.windows = kWindows, s.heads = kHeads, s.head_size = d;
  s.queries = queries, s.keys = keys;
  s.q_head = d, s.q_row = kHeads * d + 8 + odd, s.q_window = queries * s.q_row + 16 + odd;
  s.kv_row = d + 8 * odd + odd, s.kv_head = (keys + 4) * s.kv_row;
  s.kv_window = kHeads * s.kv_head + odd;
  return s;
}

// Elements from the first of a window and head to beyond the last.
std::int64_t q_count(const AttentionShape& s) {
  return s.windows * s.q_window;
}
std::int64_t kv_count(const AttentionShape& s) {
  return s.windows * s.kv_window;
}

// Every third key; all of the first window's first keys, so that some of its queries see none.
std::vector<std::uint8_t> make_mask(const AttentionShape& s) {
  std::vector<std::uint8_t> mask;
  for (std::int64_t w = 0; w < s.windows; ++w)
    for (std::int64_t j = 0; j < s.keys; ++j)
      mask.push_back((j + w) % 3 == 0 || (w == 0 && j < s.keys * 3 / 4) ? 0 : 5);
  return mask;
}

// Arguments of one case in T and double, and the CPU's results; its backward is given out and lse
// as rounded to T and float. Without `fused`, q, k and v are three arrays; with it, one array.
template <typename T>
struct Problem {
  Problem(Layout layout, std::int64_t queries, std::int64_t keys, std::int64_t d,
          bool with_reference = true)
      : what(name(layout) + " queries " + std::to_string(queries) + " keys " +
             std::to_string(keys) + " size " + std::to_string(d)),
        fused(layout == Layout::fused),
        s(shape_of(layout, queries, keys, d)),
        q(q_count(s), 1),
        k(fused ? 0 : kv_count(s), 2),
        v(fused ? 0 : kv_count(s), 3),
        dout(s.windows * s.queries * s.heads * d, 4) {
    if (layout == Layout::masked || layout == Layout::ragged) mask = make_mask(s);
    if (with_reference) compute();
  }

  void compute() {
    const double* qkv = q.as_double.data();
    const double* k_from = fused ? qkv + s.head_size : k.as_double.data();
    const double* v_from = fused ? qkv + 2 * s.head_size : v.as_double.data();
    const std::uint8_t* keep = mask.empty() ? nullptr : mask.data();
    const double untouched = std::numeric_limits<double>::quiet_NaN();
    out.resize(dout.typed.size());
    lse.resize(static_cast<std::size_t>(s.windows * s.heads * s.queries));
    dq.assign(q.typed.size(), untouched);
    dk.assign(k.typed.size(), untouched);
    dv.assign(v.typed.size(), untouched);
    double* dk_to = fused ? dq.data() + s.head_size : dk.data();
    double* dv_to = fused ? dq.data() + 2 * s.head_size : dv.data();
    cpu::attention_forward<double>({s, qkv, k_from, v_from, keep, out.data(), lse.data()});
    for (const double x : out) given_out.push(x);
    for (const double x : lse) given_lse.push(x);
    cpu::attention_backward<double>({s, qkv, k_from, v_from, keep, given_out.as_double.data(),
                                     given_lse.as_double.data(), dout.as_double.data(), dq.data(),
                                     dk_to, dv_to});
  }

  std::string what;
  bool fused;
  AttentionShape s;
  Values<T> q, k, v, dout, given_out;
  Values<float> given_lse;
  std::vector<std::uint8_t> mask;
  std::vector<double> out, lse, dq, dk, dv;  // NaN where nothing is written
};

template <typename T>
struct OnDevice {
  OnDevice(const Queue& on, const Problem<T>& problem)
      : queue(on),
        p(problem),
        q(p.q.typed),
        k(p.k.typed),
        v(p.v.typed),
        dout(p.dout.typed),
        out(static_cast<std::int64_t>(p.dout.typed.size())),
        dq(q.count()),
        dk(k.count()),
        dv(v.count()),
        lse(p.s.windows * p.s.heads * p.s.queries),
        given_out(p.given_out.typed),
        given_lse(p.given_lse.typed),
        mask(p.mask) {}

  const std::uint8_t* keep() const { return p.mask.empty() ? nullptr : mask.get(); }
  const T* k_from() const { return p.fused ? q.get() + p.s.head_size : k.get(); }
  const T* v_from() const { return p.fused ? q.get() + 2 * p.s.head_size : v.get(); }
  void forward(bool with_lse = true) {
    attention_forward<T>(queue, {p.s, q.get(), k_from(), v_from(), keep(), out.get(),
                                 with_lse ? lse.get() : nullptr});
  }
  // From what the forward left, or from what the reference was given.
  void backward(bool from_given = false) {
    const T* from = from_given ? given_out.get() : out.get();
    const float* from_lse = from_given ? given_lse.get() : lse.get();
    T* dk_to = p.fused ? dq.get() + p.s.head_size : dk.get();
    T* dv_to = p.fused ? dq.get() + 2 * p.s.head_size : dv.get();
    attention_backward<T>(queue, {p.s, q.get(), k_from(), v_from(), keep(), from, from_lse,
                                  dout.get(), dq.get(), dk_to, dv_to});
  }

  Queue queue;
  const Problem<T>& p;
  DeviceArray<T> q, k, v, dout, out, dq, dk, dv;
  DeviceArray<float> lse;
  DeviceArray<T> given_out;
  DeviceArray<float> given_lse;
  DeviceArray<std::uint8_t> mask;
};

double root_mean_square(const std::vector<double>& values) {
  double sum = 0, count = 0;
  for (const double x : values)
    if (!std::isnan(x)) sum += x * x, ++count;
  return std::sqrt(sum / std::max(count, 1.0));
}

// As expect_close, but what is NaN in `expected` must still hold the bytes it was filled with, and
// infinities must be equal.
template <typename T>
void expect_written(const std::vector<T>& actual, const std::vector<double>& expected,
                    double tolerance, double scale, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  std::vector<T> compared;
  std::vector<double> wanted;
  std::int64_t touched = 0, unequal = 0;
  const std::vector<unsigned char> filled(sizeof(T), 0xff);
  for (std::size_t i = 0; i < actual.size(); ++i)
    if (std::isnan(expected[i])) {
      touched += std::memcmp(&actual[i], filled.data(), sizeof(T)) != 0;
    } else if (std::isinf(expected[i])) {
      unequal += static_cast<double>(to_float(actual[i])) != expected[i];
    } else {
      compared.push_back(actual[i]);
      wanted.push_back(expected[i]);
    }
  EXPECT_EQ(touched, 0) << what << ": written between the rows";
  EXPECT_EQ(unequal, 0) << what << ": infinities";
  expect_close(compared, wanted, tolerance, scale, what);
}

// Float's own error is that of sums of some hundred terms, bf16's the rounding of the result.
template <typename T>
constexpr double kOutTolerance = std::is_same_v<T, bf16> ? kRounding<T> : 256 * kRounding<T>;
template <typename T>
constexpr double kGradientTolerance = std::is_same_v<T, bf16> ? kRounding<T> : 1024 * kRounding<T>;

template <typename T>
void expect_correct(const Queue& queue, const Problem<T>& problem) {
  OnDevice<T> device(queue, problem);
  device.forward();
  device.backward(true);
  expect_written(device.out.host(), problem.out, kOutTolerance<T>,
                 std::max(root_mean_square(problem.out), 1e-3), problem.what + ", out");
  expect_written(device.lse.host(), problem.lse, 64 * kRounding<float>, 1.0,
                 problem.what + ", lse");
  // dq and dk vanish where a query sees one key: they are held to the size of what cancels.
  const auto expect_gradient = [&](const DeviceArray<T>& actual,
                                   const std::vector<double>& expected, const char* which) {
    expect_written(actual.host(), expected, kGradientTolerance<T>,
                   std::max(root_mean_square(expected), 0.1), problem.what + ", " + which);
  };
  expect_gradient(device.dq, problem.dq, "dq");
  expect_gradient(device.dk, problem.dk, "dk");
  expect_gradient(device.dv, problem.dv, "dv");
}

template <typename T>
void expect_layout_correct(const Queue& queue, Layout layout) {
  for (const auto& [queries, keys] : kLengths)
    for (const std::int64_t d : kHeadSizes)
      if (layout != Layout::fused || queries == keys)
        expect_correct(queue, Problem<T>(layout, queries, keys, d));
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <typename T>
void expect_same_bits(const OnDevice<T>& a, const OnDevice<T>& b) {
  EXPECT_TRUE(same_bits(a.out.host(), b.out.host())) << a.p.what << ", out";
  EXPECT_TRUE(same_bits(a.lse.host(), b.lse.host())) << a.p.what << ", lse";
  EXPECT_TRUE(same_bits(a.dq.host(), b.dq.host())) << a.p.what << ", dq";
  EXPECT_TRUE(same_bits(a.dk.host(), b.dk.host())) << a.p.what << ", dk";
  EXPECT_TRUE(same_bits(a.dv.host(), b.dv.host())) << a.p.what << ", dv";
}

template <typename T>
class AttentionGpu : public GpuTest {};
using Types = ::testing::Types<float, bf16>;
TYPED_TEST_SUITE(AttentionGpu, Types);

TYPED_TEST(AttentionGpu, FusedMatchesTheCpu) {
  expect_layout_correct<TypeParam>(this->queue(), Layout::fused);
}
TYPED_TEST(AttentionGpu, CachesMatchTheCpu) {
  expect_layout_correct<TypeParam>(this->queue(), Layout::cache);
}
TYPED_TEST(AttentionGpu, MaskedCachesMatchTheCpu) {
  expect_layout_correct<TypeParam>(this->queue(), Layout::masked);
}
TYPED_TEST(AttentionGpu, OddStridesMatchTheCpu) {
  expect_layout_correct<TypeParam>(this->queue(), Layout::ragged);
}

TYPED_TEST(AttentionGpu, OddHeadSizesMatchTheCpu) {
  for (const std::int64_t d : {1, 5, 33, 80, 96, 131, 255})
    for (const std::int64_t queries : {2, 4, 19})
      expect_correct(this->queue(), Problem<TypeParam>(Layout::masked, queries, 41, d));
}

// What masked keys hold does not matter, be it NaN.
TYPED_TEST(AttentionGpu, MaskedKeysAreNotSeen) {
  using T = TypeParam;
  for (const std::int64_t queries : {2, 70}) {
    Problem<T> problem(Layout::masked, queries, 150, 64);
    const AttentionShape& s = problem.s;
    for (std::int64_t w = 0; w < s.windows; ++w)
      for (std::int64_t j = 0; j < s.keys; ++j) {
        if (problem.mask[static_cast<std::size_t>(w * s.keys + j)] != 0) continue;
        for (std::int64_t h = 0; h < s.heads; ++h)
          for (std::int64_t c = 0; c < s.head_size; ++c) {
            const auto at =
                static_cast<std::size_t>(w * s.kv_window + h * s.kv_head + j * s.kv_row + c);
            problem.k.typed[at] = problem.v.typed[at] =
                from_double<T>(std::numeric_limits<double>::quiet_NaN());
          }
      }
    expect_correct(this->queue(), problem);
  }
}

TYPED_TEST(AttentionGpu, RunsRepeatBitForBitAndLseIsOptional) {
  for (const auto& [queries, keys] : {std::array{1L, 700L}, {4L, 90L}, {130L, 300L}}) {
    const Problem<TypeParam> problem(Layout::masked, queries, keys, 64, false);
    OnDevice<TypeParam> first(this->queue(), problem), second(this->queue(), problem);
    for (auto* device : {&first, &second}) {
      device->forward();
      device->backward();
    }
    second.forward(false);
    expect_same_bits(first, second);
  }
}

// A workspace for the D_i of one of two windows.
TYPED_TEST(AttentionGpu, BackwardRunsInPasses) {
  const Problem<TypeParam> problem(Layout::masked, 70, 100, 64, false);
  const AttentionShape& s = problem.s;
  OnDevice<TypeParam> whole(this->queue(), problem), passes(this->queue(), problem);
  passes.queue.workspace_bytes = s.heads * s.queries * static_cast<std::int64_t>(sizeof(float)) + 4;
  for (auto* device : {&whole, &passes}) {
    device->forward();
    device->backward();
  }
  expect_same_bits(whole, passes);
  passes.queue.workspace_bytes -= 8;
  EXPECT_THROW(passes.backward(), Error);
}

TYPED_TEST(AttentionGpu, EmptyShapesAndLargeHeads) {
  Problem<TypeParam> problem(Layout::cache, 5, 9, 16, false);
  problem.s.windows = 0;
  OnDevice<TypeParam> none(this->queue(), problem);
  none.forward();
  none.backward();
  problem.s.windows = 1;
  problem.s.queries = 0;
  OnDevice<TypeParam> no_queries(this->queue(), problem);
  no_queries.forward();
  no_queries.backward();  // keys that no query sees: gradients of zero
  const std::vector<TypeParam> dk = no_queries.dk.host(), dv = no_queries.dv.host();
  for (std::int64_t h = 0; h < problem.s.heads; ++h)
    for (std::int64_t i = 0; i < problem.s.keys * problem.s.head_size; ++i) {
      const auto at = static_cast<std::size_t>(h * problem.s.kv_head + i);
      ASSERT_EQ(to_float(dk[at]), 0);
      ASSERT_EQ(to_float(dv[at]), 0);
    }
  problem.s.head_size = 257;
  EXPECT_THROW(no_queries.forward(), Error);
}

}  // namespace
}  // namespace tessera::kernels::gpu
