// Buckets and pieces against what the words mean, element by element.
#include "parallel/bucket_order.h"

#include <random>

#include <gtest/gtest.h>

namespace tessera::parallel {
namespace {

struct Case {
  std::vector<std::int64_t> begins;
  std::int64_t size;
};

Case random_case(std::mt19937_64& random) {
  Case c{{0}, 0};
  const std::size_t pieces = 1 + random() % 12;
  for (std::size_t p = 0; p < pieces; ++p) {
    c.size += 1 + std::int64_t(random() % (random() % 3 == 0 ? 2000 : 40));
    if (p + 1 < pieces) c.begins.push_back(c.size);
  }
  return c;
}

TEST(BucketOrder, NothingIsReadBeforeAndNothingSummedBehindItsTime) {
  std::mt19937_64 random(3);
  std::int64_t shared = 0, crossing = 0;
  for (int times = 0; times < 300; ++times) {
    const Case c = random_case(random);
    const optim::Partition partition(c.size, 1 + std::int64_t(random() % 4),
                                     1 + std::int64_t(random() % 500));
    const auto& buckets = partition.buckets();
    const auto needed = needed_ahead(partition, c.begins);
    const auto behind = final_behind(partition, c.begins);
    ASSERT_EQ(needed.size(), c.begins.size());
    ASSERT_EQ(behind.size(), buckets.size());
    std::vector<std::size_t> last(c.begins.size(), 0);         // bucket with elements of the piece
    std::vector<std::size_t> first(buckets.size(), SIZE_MAX);  // piece with elements in the bucket
    for (std::int64_t i = 0; i < c.size; ++i) {
      std::size_t piece = c.begins.size() - 1, bucket = 0;
      while (c.begins[piece] > i) --piece;
      while (buckets[bucket].end <= i) ++bucket;
      last[piece] = std::max(last[piece], bucket);
      first[bucket] = std::min(first[bucket], piece);
    }
    EXPECT_EQ(needed, last);
    EXPECT_EQ(behind, first);
    // After the last piece every bucket has been waited for.
    EXPECT_EQ(needed.back(), buckets.size() - 1);
    for (std::size_t p = 1; p < needed.size(); ++p) shared += needed[p] == needed[p - 1];
    for (std::size_t p = 1; p < needed.size(); ++p) crossing += needed[p] > needed[p - 1] + 1;
  }
  EXPECT_GT(shared, 100);
  EXPECT_GT(crossing, 100);
}

}  // namespace
}  // namespace tessera::parallel
