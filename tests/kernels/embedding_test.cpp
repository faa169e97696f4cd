// Look-up in plain, concatenated (block embedder) and grouped (token decoder) layouts.
#include "kernels/embedding.h"

#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {
namespace {

template <typename T>
class EmbeddingTest : public ::testing::Test {};
TYPED_TEST_SUITE(EmbeddingTest, Types);

std::vector<EmbeddingShape> shapes() {
  std::vector<EmbeddingShape> all;
  EmbeddingShape s;
  s.groups = 1, s.rows = 31, s.width = 17, s.vocab = 13, s.stride = 17;  // plain
  all.push_back(s);
  s.rows = 64, s.width = 1, s.vocab = 2, s.stride = 1;  // narrow, many repeats
  all.push_back(s);
  s.rows = 300, s.width = 131, s.vocab = 29, s.stride = 140;  // wider rows than needed
  all.push_back(s);
  s.groups = 7, s.rows = 3, s.width = 19, s.vocab = 11, s.stride = 19;  // behind 2 prefix rows
  s.ids_group_stride = 4, s.out_group_stride = 5 * 19;
  all.push_back(s);
  s.groups = 3, s.rows = 0;
  all.push_back(s);
  s.groups = 0, s.rows = 3;
  all.push_back(s);
  return all;
}

Index ids_count(const EmbeddingShape& s) {
  return s.groups * std::max(s.rows, s.ids_group_stride);
}
Index out_count(const EmbeddingShape& s) {
  return s.groups * std::max(s.rows * s.stride, s.out_group_stride);
}

TYPED_TEST(EmbeddingTest, ForwardCopiesRowsAndTouchesNothingElse) {
  using T = TypeParam;
  for (const EmbeddingShape& s : shapes()) {
    const auto ids = integers(ids_count(s), s.vocab, "ids");
    const auto table = normal<T>(s.vocab * s.width, "table");
    std::vector<T> out(out_count(s), -3), expected = out;
    for (Index g = 0; g < s.groups; ++g)
      for (Index r = 0; r < s.rows; ++r)
        for (Index j = 0; j < s.width; ++j)
          expected[g * s.out_group_stride + r * s.stride + j] =
              table[ids[g * s.ids_group_stride + r] * s.width + j];
    embedding_forward(Queue{}, EmbeddingForward<T>{s, ids.data(), table.data(), out.data()});
    expect_same_bits(out, expected, "out");
  }
}

TYPED_TEST(EmbeddingTest, BackwardAddsInRowOrderForAnyThreadCount) {
  using T = TypeParam;
  for (const EmbeddingShape& s : shapes())
    for (const int threads : {1, 2, 3}) {
      const Threads scope(threads);
      const auto ids = integers(ids_count(s), s.vocab, "ids");
      const auto dout = normal<T>(out_count(s), "dout");
      std::vector<T> dtable = normal<T>(s.vocab * s.width, "dtable"), expected = dtable;
      for (Index g = 0; g < s.groups; ++g)
        for (Index r = 0; r < s.rows; ++r)
          for (Index j = 0; j < s.width; ++j)
            expected[ids[g * s.ids_group_stride + r] * s.width + j] +=
                dout[g * s.out_group_stride + r * s.stride + j];
      embedding_backward(Queue{}, EmbeddingBackward<T>{s, ids.data(), dout.data(), dtable.data()});
      expect_same_bits(dtable, expected, "dtable");
    }
}

TEST(Embedding, ConcatenationIsTheLayout) {
  EmbeddingShape s;  // 3 blocks of 4 tokens, width 20 = 4 x 5
  s.rows = 12, s.width = 5, s.vocab = 9, s.stride = 5;
  const auto ids = integers(12, 9, "ids");
  const auto table = normal<float>(45, "table");
  std::vector<float> blocks(3 * 20);
  embedding_forward(Queue{}, EmbeddingForward<float>{s, ids.data(), table.data(), blocks.data()});
  for (Index block = 0; block < 3; ++block)
    for (Index j = 0; j < 20; ++j)
      EXPECT_EQ(blocks[block * 20 + j], table[ids[block * 4 + j / 5] * 5 + j % 5]);
}

TEST(Embedding, AnIdOutsideTheVocabularyIsAnInternalError) {
  EmbeddingShape s;
  s.rows = 3, s.width = 2, s.vocab = 4, s.stride = 2;
  const std::vector<float> table(8), dout(6);
  std::vector<float> out(6), dtable(8);
  for (const std::int32_t bad : {-1, 4}) {
    const std::vector<std::int32_t> ids = {0, bad, 1};
    EXPECT_THROW(embedding_forward(
                     Queue{}, EmbeddingForward<float>{s, ids.data(), table.data(), out.data()}),
                 Error);
    EXPECT_THROW(embedding_backward(
                     Queue{}, EmbeddingBackward<float>{s, ids.data(), dout.data(), dtable.data()}),
                 Error);
  }
}

TEST(Embedding, RefusesADeviceItHasNoImplementationFor) {
  EXPECT_THROW(embedding_forward(Queue{Device::cuda, nullptr}, EmbeddingForward<double>{}), Error);
}

}  // namespace
}  // namespace tessera::kernels::check
