#include "data/document_statistics.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kIndexBlock = 65536;  // entries read at a time

}  // namespace

void DocumentStatistics::add(std::int64_t tokens) {
  TESSERA_CHECK(tokens >= 0);
  ++documents_;
  tokens_ += tokens;
  if (tokens >= kCounted) {
    ++longer_[tokens];
    return;
  }
  if (counts_.empty()) counts_.resize(static_cast<std::size_t>(kCounted));
  ++counts_[static_cast<std::size_t>(tokens)];
}

void DocumentStatistics::add(ShardReader& shard) {
  std::vector<std::int64_t> offsets;
  const std::int64_t documents = shard.counts().documents;
  for (std::int64_t first = 0; first < documents; first += kIndexBlock) {
    offsets.resize(static_cast<std::size_t>(std::min(kIndexBlock, documents - first)) + 1);
    shard.read_documents(first, offsets);
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) add(offsets[i + 1] - offsets[i]);
  }
}

double DocumentStatistics::mean() const {
  return documents_ == 0 ? 0 : static_cast<double>(tokens_) / static_cast<double>(documents_);
}

std::int64_t DocumentStatistics::quantile(double share) const {
  const auto wanted = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(std::ceil(share * static_cast<double>(documents_))), 1,
      std::max<std::int64_t>(1, documents_));
  std::int64_t seen = 0;
  for (std::size_t length = 0; length < counts_.size(); ++length)
    if ((seen += counts_[length]) >= wanted) return static_cast<std::int64_t>(length);
  for (const auto& [length, count] : longer_)
    if ((seen += count) >= wanted) return length;
  return 0;
}

}  // namespace tessera::data
