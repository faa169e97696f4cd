// Short windows on the device against the CPU's in double: every length of the tiny kernels at each
// of their head sizes and rotations, the lengths just beyond them, more windows than the backward
// holds at once, absent lse and bias gradient, equal bits.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/rotary.h"
#include "kernels/window_attention.h"
#include "tests/kernels/gpu/gpu_check.h"

namespace tessera::kernels::gpu {
namespace {

struct Case {
  std::int64_t windows, length, heads, head_size, rotary;
  bool masked = false;

  // A third of the keys is masked, never a window's first.
  std::vector<std::uint8_t> mask() const {
    std::vector<std::uint8_t> keys(static_cast<std::size_t>(rows()));
    for (std::int64_t row = 0; row < rows(); ++row)
      keys[static_cast<std::size_t>(row)] =
          row % length == 0 || (row / length * 7 + row % length * 5) % 3 != 0;
    return keys;
  }
  std::int64_t rows() const { return windows * length; }
  std::int64_t out_count() const { return rows() * heads * head_size; }
  std::string describe() const {
    return "windows " + std::to_string(windows) + " length " + std::to_string(length) + " heads " +
           std::to_string(heads) + " size " + std::to_string(head_size) + " rotary " +
           std::to_string(rotary) + (masked ? " masked" : "");
  }
};

template <typename T>
class TinyAttentionGpu : public GpuTest {
 protected:
  struct Results {
    std::vector<T> qkv, out, dqkv;
    std::vector<float> lse, dbias;
  };

  // One forward and backward on qkv and dout; dbias starts at 0.5.
  Results run(const Case& c, const Values<T>& qkv, const Values<T>& dout, bool optional = true) {
    const Angles<float> angles(c);
    const DeviceArray<float> cos(angles.cos), sin(angles.sin);
    DeviceArray<T> device_qkv(qkv.typed), device_dout(dout.typed);
    DeviceArray<T> out(c.out_count()), dqkv(3 * c.out_count());
    DeviceArray<float> lse(c.rows() * c.heads);
    DeviceArray<float> dbias(
        std::vector<float>(static_cast<std::size_t>(3 * c.heads * c.head_size), 0.5f));
    const DeviceArray<std::uint8_t> mask(c.mask());
    const WindowAttentionShape<T> shape{c.windows,
                                        c.length,
                                        c.heads,
                                        c.head_size,
                                        c.rotary,
                                        cos.get(),
                                        sin.get(),
                                        AttentionKernel::native,
                                        c.masked ? mask.get() : nullptr};
    Queue q = this->queue();
    const DeviceArray<std::byte> workspace(
        std::max(kWorkspaceBytes, window_attention_workspace<T>(q, shape)));
    q.workspace = workspace.get();
    q.workspace_bytes = workspace.count();
    window_attention_forward<T>(
        q, {shape, device_qkv.get(), out.get(), optional ? lse.get() : nullptr, false});
    window_attention_backward<T>(
        q, {shape, device_qkv.get(), out.get(), optional ? lse.get() : nullptr, device_dout.get(),
            dqkv.get(), optional ? dbias.get() : nullptr});
    return {device_qkv.host(), out.host(), dqkv.host(), lse.host(), dbias.host()};
  }

  // bf16: q and k are rounded once more when rotated, p and ds may be before their products.
  void expect_correct(const Case& c) {
    const double tolerance = (std::is_same_v<T, bf16> ? 2 : 64) * kRounding<T>;
    const Values<T> qkv(3 * c.out_count(), 1), dout(c.out_count(), 2);
    const Results got = run(c, qkv, dout);

    const Angles<double> angles(c);
    std::vector<double> rotated = qkv.as_double, out(got.out.size()), lse(got.lse.size()),
                        dqkv(got.dqkv.size()), dbias(got.dbias.size(), 0.5);
    const std::vector<std::uint8_t> mask = c.mask();
    const WindowAttentionShape<double> shape{c.windows,
                                             c.length,
                                             c.heads,
                                             c.head_size,
                                             c.rotary,
                                             angles.cos.data(),
                                             angles.sin.data(),
                                             AttentionKernel::automatic,
                                             c.masked ? mask.data() : nullptr};
    cpu::window_attention_forward<double>({shape, rotated.data(), out.data(), lse.data(), false});
    cpu::window_attention_backward<double>({shape, rotated.data(), out.data(), lse.data(),
                                            dout.as_double.data(), dqkv.data(), dbias.data()});

    EXPECT_LE(relative_error(got.out, out), tolerance) << c.describe() << ", out";
    expect_close(got.lse, lse, 4 * tolerance, 1.0, c.describe() + ", lse");
    // Rows apart, so that one wrong window of many shows; scaled by the whole.
    const auto width = static_cast<std::size_t>(3 * c.heads * c.head_size);
    double squares = 0;
    for (const double x : dqkv) squares += x * x;
    const double row_norm = std::sqrt(squares / static_cast<double>(c.rows()));
    for (std::size_t row = 0; row < static_cast<std::size_t>(c.rows()); ++row) {
      double error = 0;
      for (std::size_t i = row * width; i < (row + 1) * width; ++i) {
        const double d = static_cast<double>(to_float(got.dqkv[i])) - dqkv[i];
        error += d * d;
      }
      // A row may be several times as large as the rows are on average.
      ASSERT_LE(std::sqrt(error), 8 * tolerance * row_norm) << c.describe() << ", row " << row;
    }
    EXPECT_LE(relative_error(got.dqkv, dqkv), 2 * tolerance) << c.describe() << ", dqkv";
    // Errors of rows are independent: a column's sum is off by sqrt(rows) times one of them.
    expect_close(got.dbias, dbias, 8 * tolerance,
                 1 + std::sqrt(squares / static_cast<double>(width)), c.describe() + ", dbias");
  }

 private:
  template <typename Real>
  struct Angles {
    std::vector<Real> cos, sin;
    explicit Angles(const Case& c) {
      const auto count = static_cast<std::size_t>(c.length * c.rotary / 2);
      std::vector<float> cos_values(count), sin_values(count);
      rotary_tables<float>(c.length, c.rotary, 10000, cos_values.data(), sin_values.data());
      cos.assign(cos_values.begin(), cos_values.end());
      sin.assign(sin_values.begin(), sin_values.end());
    }
  };
};
TYPED_TEST_SUITE(TinyAttentionGpu, DeviceTypes);

TYPED_TEST(TinyAttentionGpu, EveryTinyLengthMatchesTheCpu) {
  for (std::int64_t length = 1; length <= 8; ++length)
    for (const std::int64_t size : {32, 64, 128})
      for (const std::int64_t rotary : {std::int64_t{0}, std::int64_t{16}, size})
        this->expect_correct({7, length, 3, size, rotary});
}

TYPED_TEST(TinyAttentionGpu, LengthsAndSizesBeyondMatchTheCpu) {
  for (const std::int64_t length : {9, 16, 17, 31, 33, 64})
    for (const std::int64_t size : {32, 64, 256})
      this->expect_correct({3, length, 2, size, size / 4});
  // Tiny lengths that the tiny kernels leave to the others: head sizes, a rotation of 8.
  for (const std::int64_t size : {16, 32, 48, 96}) this->expect_correct({5, 5, 3, size, 8});
}

// Masked keys, by the tiny kernels and, beyond them, by the scalar ones.
TYPED_TEST(TinyAttentionGpu, MaskedKeysMatchTheCpu) {
  for (std::int64_t length = 1; length <= 8; ++length)
    for (const std::int64_t size : {32, 64, 128})
      this->expect_correct({37, length, 3, size, 16, true});
  this->expect_correct({1009, 5, 12, 64, 16, true});
  this->expect_correct({5, 9, 2, 64, 16, true});
  this->expect_correct({5, 5, 3, 48, 8, true});
}

// Threads of the backward go from window to window; the last round is not full.
TYPED_TEST(TinyAttentionGpu, ManyWindowsMatchTheCpu) {
  for (const Case& c :
       {Case{1009, 5, 12, 64, 16}, Case{1009, 2, 13, 64, 16}, Case{1, 5, 1, 64, 16}})
    this->expect_correct(c);
}

TYPED_TEST(TinyAttentionGpu, OptionalResultsMayBeAbsent) {
  using T = TypeParam;
  const Case c{7, 5, 3, 64, 16};
  const Values<T> qkv(3 * c.out_count(), 1), dout(c.out_count(), 2);
  if constexpr (std::is_same_v<T, bf16>) {
    const auto with = this->run(c, qkv, dout), without = this->run(c, qkv, dout, false);
    EXPECT_EQ(std::memcmp(with.out.data(), without.out.data(), 2 * with.out.size()), 0);
    EXPECT_EQ(std::memcmp(with.dqkv.data(), without.dqkv.data(), 2 * with.dqkv.size()), 0);
    EXPECT_EQ(without.dbias, std::vector<float>(without.dbias.size(), 0.5f));
    // The tiny kernels leave qkv as it was.
    EXPECT_EQ(std::memcmp(with.qkv.data(), qkv.typed.data(), 2 * with.qkv.size()), 0);
  }
}

TYPED_TEST(TinyAttentionGpu, RunsRepeatBitForBit) {
  using T = TypeParam;
  const Case c{1009, 5, 12, 64, 16};
  const Values<T> qkv(3 * c.out_count(), 1), dout(c.out_count(), 2);
  const auto first = this->run(c, qkv, dout), second = this->run(c, qkv, dout);
  const auto same = [](const auto& a, const auto& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
  };
  EXPECT_TRUE(same(first.out, second.out));
  EXPECT_TRUE(same(first.lse, second.lse));
  EXPECT_TRUE(same(first.dqkv, second.dqkv));
  EXPECT_TRUE(same(first.dbias, second.dbias));
}

}  // namespace
}  // namespace tessera::kernels::gpu
