// Embedding, AdamW, norms of tensors and rotary positions on the device against the CPU's in
// double.
#include "kernels/adamw.h"
#include "kernels/embedding.h"
#include "kernels/rotary.h"
#include "kernels/squared_norms.h"
#include "tests/kernels/gpu/gpu_check.h"

namespace tessera::kernels::gpu {
namespace {

template <typename T>
class TableGpu : public GpuTest {};
TYPED_TEST_SUITE(TableGpu, DeviceTypes);

enum class Ids { random, equal, skewed };

TYPED_TEST(TableGpu, EmbeddingMatchesTheCpu) {
  using T = TypeParam;
  for (const auto& [batches, groups, rows, width, vocab] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>{1, 1, 1, 1,
                                                                                         1},
        {1, 1, 1000, 7, 13},
        {3, 5, 3, 24, 11},
        {1, 1, 4099, 192, 50304},
        {2, 31, 3, 64, 97},
        {1, 1, 9000, 96, 3}})
    for (const Ids kind : {Ids::random, Ids::equal, Ids::skewed}) {
      EmbeddingShape s;
      s.batches = batches, s.groups = groups, s.rows = rows, s.width = width, s.vocab = vocab;
      s.stride = width, s.ids_group_stride = rows + 1, s.out_group_stride = (rows + 2) * width;
      s.ids_batch_stride = groups * (rows + 1) + 2;
      s.out_batch_stride = groups * s.out_group_stride + 8;
      const std::int64_t places = batches * s.ids_batch_stride, size = batches * s.out_batch_stride;
      std::vector<std::int32_t> ids;
      for (std::int64_t i = 0; i < places; ++i)
        ids.push_back(static_cast<std::int32_t>(kind == Ids::equal || (kind == Ids::skewed && i % 3)
                                                    ? vocab / 2
                                                    : (i * 2654435761LL >> 7) % vocab));
      const DeviceArray<std::int32_t> dids(ids);
      const Values<T> table(vocab * width, 1), filler(size, 2), dout(size, 3);
      const DeviceArray<T> dtable(table.typed), out(filler.typed), ddout(dout.typed);
      std::vector<double> expected = filler.as_double;
      cpu::embedding_forward<double>({s, ids.data(), table.as_double.data(), expected.data()});
      embedding_forward<T>(this->queue(), {s, dids.get(), dtable.get(), out.get()});
      EXPECT_EQ(widen(out.host()), expected);

      const Values<float> start(vocab * width, 4);
      std::vector<double> gradient = start.as_double;
      cpu::embedding_backward<double>({s, ids.data(), dout.as_double.data(), gradient.data()});
      const DeviceArray<float> once(start.typed), again(start.typed);
      embedding_backward<T>(this->queue(), {s, dids.get(), ddout.get(), once.get()});
      embedding_backward<T>(this->queue(), {s, dids.get(), ddout.get(), again.get()});
      expect_close(once.host(), gradient, 1e-6,
                   std::sqrt(static_cast<double>(batches * groups * rows)), "dtable");
      EXPECT_EQ(once.host(), again.host());
    }
}

TYPED_TEST(TableGpu, RotaryMatchesTheCpu) {
  using T = TypeParam;
  for (const auto& [rows, heads, d, rotary_size] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>{12, 3, 16, 4},
        {35, 5, 64, 16},
        {7, 1, 48, 48},
        {14, 2, 20, 10}})
    for (const bool listed : {false, true}) {
      const std::int64_t length = 7, count = rows * heads * 3 * d;
      if (!listed && rows % length != 0) continue;
      std::vector<float> cos(static_cast<std::size_t>(200 * rotary_size / 2)), sin = cos;
      rotary_tables<float>(200, rotary_size, 10000, cos.data(), sin.data());
      const std::vector<double> wide_cos(cos.begin(), cos.end()), wide_sin(sin.begin(), sin.end());
      std::vector<std::int32_t> positions;
      for (std::int64_t r = 0; r < rows; ++r)
        positions.push_back(static_cast<std::int32_t>(r * 13 % 200));
      const DeviceArray<float> dcos(cos), dsin(sin);
      const DeviceArray<std::int32_t> dpositions(positions);
      const Values<T> qkv(count, 1);
      const DeviceArray<T> dqkv(qkv.typed);
      std::vector<double> expected = qkv.as_double;
      for (const bool backward : {false, true}) {
        Rotary<double> e;
        e.rows = rows, e.heads = heads, e.head_size = d, e.rotary = rotary_size, e.length = length;
        e.first_position = 11, e.positions = listed ? positions.data() : nullptr;
        e.cos = wide_cos.data(), e.sin = wide_sin.data(), e.backward = backward;
        e.qkv = expected.data();
        cpu::rotary(e);
        Rotary<T> a;
        a.rows = rows, a.heads = heads, a.head_size = d, a.rotary = rotary_size, a.length = length;
        a.first_position = 11, a.positions = listed ? dpositions.get() : nullptr;
        a.cos = dcos.get(), a.sin = dsin.get(), a.qkv = dqkv.get(), a.backward = backward;
        rotary(this->queue(), a);
        expect_close(dqkv.host(), expected, 2 * kRounding<T> + 1e-6, 1, "qkv");
      }
    }
}

// Slices with gaps between tensors, one of them empty, one absent (tensor 2).
std::vector<TensorSlice> slices(std::int64_t tensor_size, std::int64_t most) {
  std::vector<TensorSlice> list;
  for (const std::int32_t tensor : {0, 1, 3})
    for (std::int64_t begin = 0; begin < tensor_size; begin += most)
      list.push_back({tensor * (tensor_size + 12) / 4 * 4 + begin,
                      std::min(most, tensor_size - begin), tensor, tensor == 1 ? 0.0f : 0.1f});
  return list;
}

TYPED_TEST(TableGpu, AdamWMatchesTheCpu) {
  using T = TypeParam;
  for (const std::int64_t size : {1, 7, 1000, 40004}) {
    const std::vector<TensorSlice> list = slices(size, kSliceElements);
    const std::int64_t total = 4 * (size + 16);
    const Values<float> p0(total, 1), g(total, 2);
    const DeviceArray<TensorSlice> dlist(list);
    const DeviceArray<float> p(p0.typed), m(std::vector<float>(std::size_t(total), 0.0f)),
        v(std::vector<float>(std::size_t(total), 0.0f));
    const DeviceArray<float> dg(g.typed);
    const DeviceArray<T> working(total);
    std::vector<double> ep = p0.as_double, em(total), ev(total);
    for (std::int64_t n = 1; n <= 3; ++n) {
      const AdamWStep step = adamw_step(3e-3, 0.7, 0.9, 0.95, n);
      const DeviceArray<AdamWStep> dstep(std::vector<AdamWStep>{step});
      cpu::adamw<double>({list.data(), static_cast<std::int64_t>(list.size()), &step, 0.9, 0.95,
                          1e-8, ep.data(), em.data(), ev.data(), g.as_double.data(), nullptr});
      adamw<T>(this->queue(),
               {dlist.get(), static_cast<std::int64_t>(list.size()), dstep.get(), 0.9, 0.95, 1e-8,
                p.get(), m.get(), v.get(), dg.get(), working.get()});
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
    expect_close(p.host(), ep, 2e-6, 0.01, "p");
    expect_close(m.host(), em, 2e-6, 0.01, "m");
    expect_close(v.host(), ev, 2e-6, 0.01, "v");
    const std::vector<T> copy = working.host();
    const std::vector<float> masters = p.host();
    for (const TensorSlice& s : list)
      for (std::int64_t i = s.offset; i < s.offset + s.count; ++i)
        ASSERT_EQ(to_float(copy[static_cast<std::size_t>(i)]),
                  to_float(from_double<T>(double(masters[static_cast<std::size_t>(i)]))));
  }
}

using NormsGpu = GpuTest;
TEST_F(NormsGpu, SumsOfSquaresMatchTheCpuAndShowNan) {
  for (const std::int64_t size : {1, 7, 1000, 40004}) {
    const std::vector<TensorSlice> list = slices(size, kSliceElements);
    Values<float> x(4 * (size + 16), 1);
    const DeviceArray<TensorSlice> dlist(list);
    for (const bool bad : {false, true}) {
      if (bad) x.typed[static_cast<std::size_t>(list.back().offset)] = NAN;
      const DeviceArray<float> dx(x.typed);
      const DeviceArray<double> partial(static_cast<std::int64_t>(list.size())), sums(5);
      squared_norms<float>(queue(), {dlist.get(), static_cast<std::int64_t>(list.size()), dx.get(),
                                     partial.get(), sums.get(), 5});
      std::vector<double> found(5), expected(5);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      ASSERT_EQ(cudaMemcpy(found.data(), sums.get(), 40, cudaMemcpyDeviceToHost), cudaSuccess);
      cpu::squared_norms<float>({list.data(), static_cast<std::int64_t>(list.size()),
                                 x.typed.data(), nullptr, expected.data(), 5});
      for (std::size_t t = 0; t < 5; ++t)
        if (bad && t == 3)
          EXPECT_TRUE(std::isnan(found[t]));
        else
          EXPECT_NEAR(found[t], expected[t], 1e-12 * expected[t]) << t;
    }
  }
}

}  // namespace
}  // namespace tessera::kernels::gpu
