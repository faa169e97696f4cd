// Attention on every path against the definition: strides, masks, query offsets, odd sizes.
#include "kernels/attention.h"

#include "kernels/cpu/attention_paths.h"
#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class AttentionTest : public ::testing::Test {};
TYPED_TEST_SUITE(AttentionTest, Types);

enum class Path { chosen, rows, tiles, tiny };

template <typename T>
struct Case {
  AttentionShape s;
  std::vector<T> qkv, cache, out, lse, dout, dqkv, dcache;
  std::vector<std::uint8_t> mask;
  bool fused = true;

  // Fused training layout.
  Case(Index windows, Index length, Index heads, Index d)
      : s(fused_attention_shape(windows, length, heads, d)),
        qkv(normal<T>(windows * length * heads * 3 * d, "qkv")) {
    finish();
  }
  // Queries from a matrix of their own, keys and values from a cache with room for more.
  Case(Index windows, Index queries, Index keys, Index heads, Index d) : fused(false) {
    s.windows = windows, s.heads = heads, s.head_size = d, s.queries = queries, s.keys = keys;
    s.q_row = heads * d + 3, s.q_window = queries * s.q_row + 1, s.q_head = d;
    s.kv_row = d + 2, s.kv_head = (keys + 4) * s.kv_row, s.kv_window = heads * s.kv_head + 5;
    qkv = normal<T>(windows * s.q_window, "q");
    cache = normal<T>(2 * windows * s.kv_window, "cache");
    finish();
  }
  void finish() {
    const Index count = s.windows * s.queries * s.heads;
    out.assign(count * s.head_size, static_cast<T>(kNan));
    lse.assign(count, static_cast<T>(kNan));
    dout = normal<T>(count * s.head_size, "dout");
  }
  // Masks keys at random, in every second window the first keys too (left padding).
  void add_mask() {
    const auto bits = integers(s.windows * s.keys, 4, "mask");
    for (Index i = 0; i < s.windows * s.keys; ++i)
      mask.push_back(bits[i] != 0 && !(i / s.keys % 2 == 1 && i % s.keys < s.keys / 3));
  }

  const T* k() const { return fused ? qkv.data() + s.head_size : cache.data(); }
  const T* v() const {
    return fused ? qkv.data() + 2 * s.head_size : cache.data() + s.windows * s.kv_window;
  }

  void forward(Path path) {
    AttentionForward<T> a;
    a.shape = s, a.q = qkv.data(), a.k = k(), a.v = v();
    a.key_mask = mask.empty() ? nullptr : mask.data();
    a.out = out.data(), a.lse = lse.data();
    if (path == Path::rows)
      cpu::attention_forward_rows(a);
    else if (path == Path::tiles)
      cpu::attention_forward_tiles(a);
    else if (path == Path::tiny)
      cpu::attention_forward_tiny(a);
    else
      attention_forward(Queue{}, a);
  }
  void backward(Path path) {
    dqkv.assign(qkv.size(), T{77}), dcache.assign(cache.size(), T{77});
    AttentionBackward<T> a;
    a.shape = s, a.q = qkv.data(), a.k = k(), a.v = v();
    a.key_mask = mask.empty() ? nullptr : mask.data();
    a.out = out.data(), a.lse = lse.data(), a.dout = dout.data();
    a.dq = dqkv.data();
    a.dk = fused ? dqkv.data() + s.head_size : dcache.data();
    a.dv = fused ? dqkv.data() + 2 * s.head_size : dcache.data() + s.windows * s.kv_window;
    if (path == Path::rows)
      cpu::attention_backward_rows(a);
    else if (path == Path::tiles)
      cpu::attention_backward_tiles(a);
    else if (path == Path::tiny)
      cpu::attention_backward_tiny(a);
    else
      attention_backward(Queue{}, a);
  }
};

struct Expected {
  std::vector<double> out, lse, dqkv, dcache;
};

// The definition in plain loops, double precision.
template <typename T>
Expected reference(const Case<T>& c) {
  const AttentionShape& s = c.s;
  const Index d = s.head_size, offset = s.keys - s.queries;
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  Expected e;
  e.out.resize(c.out.size()), e.lse.resize(c.lse.size());
  e.dqkv.assign(c.qkv.size(), 77), e.dcache.assign(c.cache.size(), 77);
  double* dk = c.fused ? e.dqkv.data() + d : e.dcache.data();
  double* dv = c.fused ? e.dqkv.data() + 2 * d : e.dcache.data() + s.windows * s.kv_window;
  const auto dot = [&](const T* a, const T* b) {
    double sum = 0;
    for (Index x = 0; x < d; ++x) sum += double{a[x]} * double{b[x]};
    return sum;
  };
  for (Index w = 0; w < s.windows; ++w)
    for (Index h = 0; h < s.heads; ++h) {
      const auto kv = [&](Index j) { return w * s.kv_window + j * s.kv_row + h * s.kv_head; };
      for (Index j = 0; j < s.keys; ++j)
        for (Index x = 0; x < d; ++x) dk[kv(j) + x] = dv[kv(j) + x] = 0;
      for (Index i = 0; i < s.queries; ++i) {
        const Index q = w * s.q_window + i * s.q_row + h * s.q_head;
        const Index o = ((w * s.queries + i) * s.heads + h) * d;
        std::vector<double> p(s.keys, -kInfinity);
        double most = -kInfinity, sum = 0, delta = 0;
        for (Index j = 0; j <= offset + i; ++j)
          if (c.mask.empty() || c.mask[w * s.keys + j]) {
            p[j] = scale * dot(&c.qkv[q], c.k() + kv(j));
            most = std::max(most, p[j]);
          }
        for (double& value : p) sum += value = value == -kInfinity ? 0 : std::exp(value - most);
        e.lse[(w * s.heads + h) * s.queries + i] = sum == 0 ? -kInfinity : most + std::log(sum);
        for (Index x = 0; x < d; ++x) {
          for (Index j = 0; j < s.keys; ++j)
            if (p[j] != 0) e.out[o + x] += p[j] / sum * double{c.v()[kv(j) + x]};
          delta += e.out[o + x] * double{c.dout[o + x]};
          e.dqkv[q + x] = 0;
        }
        for (Index j = 0; j < s.keys; ++j) {
          if (p[j] == 0) continue;
          const double ds = p[j] / sum * (dot(&c.dout[o], c.v() + kv(j)) - delta) * scale;
          for (Index x = 0; x < d; ++x) {
            dv[kv(j) + x] += p[j] / sum * double{c.dout[o + x]};
            e.dqkv[q + x] += ds * double{c.k()[kv(j) + x]};
            dk[kv(j) + x] += ds * double{c.qkv[q + x]};
          }
        }
      }
    }
  return e;
}

template <typename T>
void check_paths(Case<T> c, const std::string& what) {
  const Expected e = reference(c);
  for (const Path path : {Path::chosen, Path::rows, Path::tiles, Path::tiny}) {
    if (path == Path::tiny && !cpu::attention_is_tiny<T>(c.s)) continue;
    const std::string name = what + ", path " + std::to_string(static_cast<int>(path)) + ": ";
    c.finish();
    c.forward(path);
    expect_near(c.out, e.out, 4 * tolerance<T>(c.s.head_size), name + "out");
    expect_near(c.lse, e.lse, 4 * tolerance<T>(c.s.head_size), name + "lse");
    c.backward(path);
    expect_near(c.dqkv, e.dqkv, 8 * tolerance<T>(c.s.head_size), name + "dqkv");
    expect_near(c.dcache, e.dcache, 8 * tolerance<T>(c.s.head_size), name + "dcache");
  }
}

TYPED_TEST(AttentionTest, FusedTrainingWindows) {
  for (const Index length : {1, 2, 3, 5, 7, 16, 17, 31, 67, 131})
    for (const Index d : {2, 6, 16, 34, 64, 80, 128}) {
      if (length > 40 && d != 34 && d != 64) continue;
      const std::string what = "length " + std::to_string(length) + ", d " + std::to_string(d);
      check_paths(Case<TypeParam>(3, length, 2, d), what);
      Case<TypeParam> masked(3, length, 2, d);
      masked.add_mask();
      check_paths(std::move(masked), what + ", masked");
    }
}

TYPED_TEST(AttentionTest, QueriesBehindACache) {
  for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 1},
                                      {1, 7},
                                      {1, 131},
                                      {2, 5},
                                      {3, 17},
                                      {5, 16},
                                      {7, 61},
                                      {31, 67},
                                      {0, 5},
                                      {0, 0}})
    for (const Index d : {2, 10, 32, 64}) {
      const std::string what = std::to_string(queries) + " queries, " + std::to_string(keys) +
                               " keys, d " + std::to_string(d);
      check_paths(Case<TypeParam>(2, queries, keys, 3, d), what);
      Case<TypeParam> masked(2, queries, keys, 3, d);
      masked.add_mask();
      check_paths(std::move(masked), what + ", masked");
    }
}

TYPED_TEST(AttentionTest, NoWindowsOrNoHeads) {
  Case<TypeParam>(0, 5, 2, 8).forward(Path::chosen);
  Case<TypeParam>(2, 5, 0, 8).backward(Path::chosen);
}

TYPED_TEST(AttentionTest, AQueryWithoutKeysGivesZeroAndItsGradientIsZero) {
  using T = TypeParam;
  for (const Path path : {Path::rows, Path::tiles, Path::tiny}) {
    Case<T> c(1, 6, 1, 8);
    c.mask = {0, 0, 0, 1, 1, 0};
    c.forward(path);
    c.backward(path);
    for (Index i = 0; i < 6; ++i)
      for (Index x = 0; x < 8; ++x) {
        EXPECT_EQ(c.out[i * 8 + x] == 0, i < 3);
        EXPECT_TRUE(i >= 3 || c.dqkv[i * 24 + x] == 0);
        if (!c.mask[i]) {
          EXPECT_EQ(c.dqkv[i * 24 + 8 + x], 0);
          EXPECT_EQ(c.dqkv[i * 24 + 16 + x], 0);
        }
      }
    for (Index i = 0; i < 3; ++i) EXPECT_EQ(c.lse[i], static_cast<T>(-kInfinity));
  }
}

TYPED_TEST(AttentionTest, WhatAMaskHidesIsNotRead) {
  using T = TypeParam;
  for (const Path path : {Path::rows, Path::tiles}) {
    Case<T> clean(2, 1, 37, 2, 18);
    clean.mask.assign(2 * 37, 1);
    clean.mask[3] = clean.mask[40] = 0;
    Case<T> dirty = clean;
    for (Index h = 0; h < 2; ++h)
      for (Index x = 0; x < 18; ++x)
        for (Index part = 0; part < 2; ++part) {
          const Index from = part * 2 * clean.s.kv_window + h * clean.s.kv_head + x;
          dirty.cache[from + 3 * clean.s.kv_row] = static_cast<T>(kNan);
          dirty.cache[from + clean.s.kv_window + 3 * clean.s.kv_row] = static_cast<T>(kInfinity);
        }
    clean.forward(path);
    dirty.forward(path);
    expect_same_bits(clean.out, dirty.out, "out");
  }
}

TEST(Attention, FiniteDifferences) {
  for (const Path path : {Path::rows, Path::tiles}) {
    Case<double> c(2, 13, 2, 6);
    c.add_mask();
    c.forward(path);
    c.backward(path);
    const std::vector<double> gradient = c.dqkv, weights = c.dout;
    const auto loss = [&] {
      c.forward(path);
      return weighted(c.out, weights);
    };
    expect_gradient(loss, c.qkv, gradient, "dqkv", 200);
  }
}

TYPED_TEST(AttentionTest, NanAndInfinityAreNotHidden) {
  using T = TypeParam;
  for (const Path path : {Path::rows, Path::tiles})
    for (const Index part : {0, 1, 2})
      for (const double bad : {kNan, kInfinity}) {
        Case<T> c(1, 21, 1, 20);
        c.qkv[11 * 60 + 3] = 1;  // so that an infinite key component is an infinite score
        c.qkv[11 * 60 + part * 20 + 3] = static_cast<T>(bad);  // row 11
        c.forward(path);
        c.backward(path);
        const auto finite = [](T x) { return std::isfinite(x); };
        EXPECT_FALSE(std::all_of(c.out.begin() + 11 * 20, c.out.begin() + 12 * 20, finite))
            << part << bad;
        EXPECT_FALSE(std::all_of(c.dqkv.begin(), c.dqkv.end(), finite));
      }
}

TYPED_TEST(AttentionTest, SameBitsForAnyThreadCount) {
  for (const Index length : {5, 67}) {
    Case<TypeParam> c(7, length, 3, 32), again = c;
    {
      const Threads threads(1);
      c.forward(Path::chosen);
      c.backward(Path::chosen);
    }
    const Threads threads(3);
    again.forward(Path::chosen);
    again.backward(Path::chosen);
    expect_same_bits(c.out, again.out, "out");
    expect_same_bits(c.lse, again.lse, "lse");
    expect_same_bits(c.dqkv, again.dqkv, "dqkv");
  }
}

TYPED_TEST(AttentionTest, LargeScoresDoNotOverflow) {
  using T = TypeParam;
  for (const Path path : {Path::rows, Path::tiles}) {
    Case<T> c(1, 33, 1, 16);
    for (T& x : c.qkv) x *= T{1000};
    c.forward(path);
    for (const T x : c.out) EXPECT_TRUE(std::isfinite(x));
    c.backward(path);
    for (const T x : c.dqkv) EXPECT_TRUE(std::isfinite(x));
  }
}

TYPED_TEST(AttentionTest, LseMayBeLeftOut) {
  Case<TypeParam> c(2, 19, 2, 8), with = c;
  with.forward(Path::chosen);
  AttentionForward<TypeParam> a;
  a.shape = c.s, a.q = c.qkv.data(), a.k = c.k(), a.v = c.v(), a.out = c.out.data();
  attention_forward(Queue{}, a);
  expect_same_bits(c.out, with.out, "out");
}

}  // namespace
}  // namespace tessera::kernels::check
