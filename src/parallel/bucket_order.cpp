#include "parallel/bucket_order.h"

#include <algorithm>

#include "core/error.h"

namespace tessera::parallel {
namespace {

void check(const std::vector<std::int64_t>& begins) {
  TESSERA_CHECK(!begins.empty() && begins.front() == 0 &&
                std::is_sorted(begins.begin(), begins.end()));
}

}  // namespace

std::vector<std::size_t> needed_ahead(const optim::Partition& partition,
                                      const std::vector<std::int64_t>& begins) {
  check(begins);
  const auto& buckets = partition.buckets();
  std::vector<std::size_t> needed;
  std::size_t bucket = 0;
  for (std::size_t piece = 0; piece < begins.size(); ++piece) {
    const bool last = piece + 1 == begins.size();
    const std::int64_t end = last ? partition.padded() : begins[piece + 1];
    while (buckets[bucket].end < end) ++bucket;
    needed.push_back(bucket);
  }
  return needed;
}

std::vector<std::size_t> final_behind(const optim::Partition& partition,
                                      const std::vector<std::int64_t>& begins) {
  check(begins);
  std::vector<std::size_t> behind;
  std::size_t piece = 0;
  for (const optim::Slice& bucket : partition.buckets()) {
    while (piece + 1 < begins.size() && begins[piece + 1] <= bucket.begin) ++piece;
    behind.push_back(piece);
  }
  return behind;
}

}  // namespace tessera::parallel
