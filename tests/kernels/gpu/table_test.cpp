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

std::vector<std::int32_t> make_ids(Ids kind, std::int64_t count, std::int64_t vocab) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(kind == Ids::equal || (kind == Ids::skewed && i % 3)
                                                ? vocab / 2
                                                : (i * 2654435761LL >> 7) % vocab));
  return ids;
}

EmbeddingShape plain(std::int64_t rows, std::int64_t width, std::int64_t vocab) {
  EmbeddingShape s;
  s.rows = rows, s.width = s.stride = width, s.vocab = vocab;
  return s;
}

// `gap`: elements between the rows of `out`.
struct EmbeddingCase {
  std::int64_t batches, groups, rows, width, gap, vocab;
};

TYPED_TEST(TableGpu, EmbeddingMatchesTheCpu) {
  using T = TypeParam;
  for (const auto& [batches, groups, rows, width, gap, vocab] : {EmbeddingCase{1, 1, 1, 1, 0, 1},
                                                                 {1, 1, 1000, 7, 0, 13},
                                                                 {3, 5, 3, 24, 0, 11},
                                                                 {3, 5, 3, 24, 5, 11},
                                                                 {1, 1, 4099, 192, 0, 50304},
                                                                 {2, 31, 3, 64, 8, 97},
                                                                 {1, 1, 9000, 96, 0, 3},
                                                                 {1, 1, 70001, 4, 0, 5},
                                                                 {1, 1, 2500, 3, 0, 2},
                                                                 {2, 1, 300, 2048, 0, 64}})
    for (const Ids kind : {Ids::random, Ids::equal, Ids::skewed}) {
      EmbeddingShape s = plain(rows, width, vocab);
      s.batches = batches, s.groups = groups, s.stride = width + gap;
      s.ids_group_stride = rows + 1, s.out_group_stride = (rows + 2) * s.stride;
      s.ids_batch_stride = groups * (rows + 1) + 2;
      s.out_batch_stride = groups * s.out_group_stride + 8;
      const std::int64_t places = batches * s.ids_batch_stride, size = batches * s.out_batch_stride;
      const std::vector<std::int32_t> ids = make_ids(kind, places, vocab);
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
                   std::sqrt(static_cast<double>(batches * groups * rows)),
                   "dtable, ids " + std::to_string(static_cast<int>(kind)));
      EXPECT_EQ(once.host(), again.host());
    }
}

// Arrays that no vector may touch, and a workspace that holds a quarter of the rows.
TYPED_TEST(TableGpu, EmbeddingBackwardUnalignedAndInSeveralPasses) {
  using T = TypeParam;
  const EmbeddingShape s = plain(3000, 64, 50);
  for (const std::int64_t shift : {0, 1})
    for (const std::int64_t bytes : {std::int64_t{40} << 10, kWorkspaceBytes}) {
      Queue queue = this->queue();
      queue.workspace_bytes = bytes;
      const std::vector<std::int32_t> ids = make_ids(Ids::skewed, s.rows, s.vocab);
      const Values<T> dout(s.rows * s.width + shift, 1);
      const Values<float> start(s.vocab * s.width + shift, 2);
      std::vector<double> expected = start.as_double;
      cpu::embedding_backward<double>(
          {s, ids.data(), dout.as_double.data() + shift, expected.data() + shift});
      const DeviceArray<std::int32_t> dids(ids);
      const DeviceArray<T> ddout(dout.typed);
      const DeviceArray<float> once(start.typed), again(start.typed);
      embedding_backward<T>(queue, {s, dids.get(), ddout.get() + shift, once.get() + shift});
      embedding_backward<T>(queue, {s, dids.get(), ddout.get() + shift, again.get() + shift});
      expect_close(once.host(), expected, 1e-6, std::sqrt(static_cast<double>(s.rows)), "dtable");
      EXPECT_EQ(once.host(), again.host());
    }
}

// Runs that start and end around every kind of border of the sums: of 32 rows and of 32 times 32.
TYPED_TEST(TableGpu, EmbeddingBackwardOfRunsAtBorders) {
  using T = TypeParam;
  const EmbeddingShape s = plain(3100, 4, 3);
  const Values<T> dout(s.rows * s.width, 1);
  const Values<float> start(s.vocab * s.width, 2);
  const DeviceArray<T> ddout(dout.typed);
  for (const std::int64_t begin : {0, 31, 32, 33, 991, 992, 993, 1023, 1024, 1025, 1056})
    for (const std::int64_t end : {1057, 1088, 2015, 2016, 2047, 2048, 2049, 2080, 3072, 3100}) {
      std::vector<std::int32_t> ids;
      for (std::int64_t i = 0; i < s.rows; ++i) ids.push_back(i < begin ? 0 : i < end ? 1 : 2);
      std::vector<double> expected = start.as_double;
      cpu::embedding_backward<double>({s, ids.data(), dout.as_double.data(), expected.data()});
      const DeviceArray<std::int32_t> dids(ids);
      const DeviceArray<float> dtable(start.typed);
      embedding_backward<T>(this->queue(), {s, dids.get(), ddout.get(), dtable.get()});
      expect_close(dtable.host(), expected, 1e-6, std::sqrt(static_cast<double>(s.rows)),
                   "run of " + std::to_string(begin) + " to " + std::to_string(end));
    }
}

// A captured backward, replayed, gives the bits of one that was not captured.
TYPED_TEST(TableGpu, EmbeddingBackwardIsCaptured) {
  using T = TypeParam;
  const EmbeddingShape s = plain(9000, 64, 50);
  const DeviceArray<std::int32_t> ids(make_ids(Ids::skewed, s.rows, s.vocab));
  const DeviceArray<T> dout(Values<T>(s.rows * s.width, 1).typed);
  const Values<float> start(s.vocab * s.width, 2);
  const DeviceArray<float> direct(start.typed), replayed(start.typed);
  const Queue queue = this->queue();
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t program = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  embedding_backward<T>(queue, {s, ids.get(), dout.get(), replayed.get()});
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&program, graph, 0), cudaSuccess);
  for (int n = 0; n < 2; ++n) {
    embedding_backward<T>(queue, {s, ids.get(), dout.get(), direct.get()});
    ASSERT_EQ(cudaGraphLaunch(program, stream), cudaSuccess);
  }
  EXPECT_EQ(replayed.host(), direct.host());
  cudaGraphExecDestroy(program);
  cudaGraphDestroy(graph);
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

// Slices of at most `most` elements, with gaps between tensors, and none of tensor 2.
std::vector<TensorSlice> slices(std::int64_t tensor_size, std::int64_t most) {
  std::vector<TensorSlice> list;
  for (const std::int32_t tensor : {0, 1, 3})
    for (std::int64_t begin = 0; begin < tensor_size; begin += most)
      list.push_back({tensor * (tensor_size + 12) / 4 * 4 + begin,
                      std::min(most, tensor_size - begin), tensor, tensor == 1 ? 0.0f : 0.1f});
  return list;
}

// Elements of a tensor and of a slice; elements that the arrays start off a vector's border.
struct ListCase {
  std::int64_t size, most, shift;
};
constexpr ListCase kLists[] = {
    {1, kSliceElements, 0}, {7, kSliceElements, 0},     {1000, kSliceElements, 0},
    {1000, 512, 1},         {40004, kSliceElements, 0}, {40004, 16, 0},
};

TYPED_TEST(TableGpu, AdamWMatchesTheCpu) {
  using T = TypeParam;
  for (const auto& [size, most, shift] : kLists) {
    const std::vector<TensorSlice> list = slices(size, most);
    const auto count = static_cast<std::int64_t>(list.size());
    const std::int64_t total = 4 * (size + 16) + shift;
    const Values<float> p0(total, 1), g(total, 2);
    const std::vector<float> zeros(static_cast<std::size_t>(total), 0.0f);
    const DeviceArray<TensorSlice> dlist(list);
    const DeviceArray<float> p(p0.typed), m(zeros), v(zeros), dg(g.typed);
    const DeviceArray<T> working(total);
    std::vector<double> ep = p0.as_double, em(total), ev(total);
    for (std::int64_t n = 1; n <= 3; ++n) {
      const AdamWStep step = adamw_step(3e-3, 0.7, 0.9, 0.95, n);
      const DeviceArray<AdamWStep> dstep(std::vector<AdamWStep>{step});
      cpu::adamw<double>({list.data(), count, &step, 0.9, 0.95, 1e-8, ep.data() + shift,
                          em.data() + shift, ev.data() + shift, g.as_double.data() + shift,
                          nullptr});
      T* copy = n == 1 ? nullptr : working.get() + shift;  // the first step without one
      adamw<T>(this->queue(), {dlist.get(), count, dstep.get(), 0.9, 0.95, 1e-8, p.get() + shift,
                               m.get() + shift, v.get() + shift, dg.get() + shift, copy});
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
    expect_close(p.host(), ep, 2e-6, 0.01, "p");
    expect_close(m.host(), em, 2e-6, 0.01, "m");
    expect_close(v.host(), ev, 2e-6, 0.01, "v");
    const std::vector<T> copies = working.host();
    const std::vector<float> masters = p.host();
    for (const TensorSlice& s : list)
      for (std::int64_t i = s.offset + shift; i < s.offset + s.count + shift; ++i)
        ASSERT_EQ(to_float(copies[static_cast<std::size_t>(i)]),
                  to_float(from_double<T>(double(masters[static_cast<std::size_t>(i)]))));
  }
}

using NormsGpu = GpuTest;
TEST_F(NormsGpu, SumsOfSquaresMatchTheCpuAndShowNan) {
  constexpr std::size_t kTensors = 5;
  for (const auto& [size, most, shift] : kLists)
    for (const bool bad : {false, true}) {
      const std::vector<TensorSlice> list = slices(size, most);
      const auto count = static_cast<std::int64_t>(list.size());
      Values<float> x(4 * (size + 16) + shift, 1);
      if (bad) x.typed[static_cast<std::size_t>(list.back().offset + shift)] = NAN;
      const DeviceArray<TensorSlice> dlist(list);
      const DeviceArray<float> dx(x.typed);
      const DeviceArray<double> partial(count), once(kTensors), again(kTensors);
      for (double* sums : {once.get(), again.get()})
        squared_norms<float>(queue(), {dlist.get(), count, dx.get() + shift, partial.get(), sums,
                                       static_cast<std::int64_t>(kTensors)});
      const std::vector<double> found = once.host(), repeated = again.host();
      std::vector<double> expected(kTensors);
      cpu::squared_norms<float>({list.data(), count, x.typed.data() + shift, nullptr,
                                 expected.data(), static_cast<std::int64_t>(kTensors)});
      for (std::size_t t = 0; t < kTensors; ++t)
        if (bad && t == 3) {
          EXPECT_TRUE(std::isnan(found[t]));
        } else {
          EXPECT_NEAR(found[t], expected[t], 1e-12 * expected[t]) << t;
          EXPECT_EQ(found[t], repeated[t]) << t;
        }
    }
}

}  // namespace
}  // namespace tessera::kernels::gpu
