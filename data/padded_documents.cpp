#include "data/padded_documents.h"

#include <algorithm>

#include "core/error.h"
#include "core/integers.h"
#include "core/random.h"

namespace tessera::data {
namespace {

constexpr unsigned kDocumentBits = 40;  // of a counter; the rest numbers the shard

}  // namespace

PaddedDocuments::PaddedDocuments(ShardPool& pool, std::size_t first,
                                 const std::vector<std::size_t>& numbers,
                                 const PaddingOptions& options)
    : pool_(pool), first_(first), numbers_(numbers), options_(options) {
  TESSERA_CHECK(options.block >= 1);
  for (std::size_t shard = 0; shard < numbers.size(); ++shard) {
    const std::int64_t documents = pool.documents(first + shard);
    for (std::int64_t at = 0; at < documents; at += kGroup) {
      groups_.push_back({shard, at, std::min(kGroup, documents - at), size_});
      size_ = decode(groups_.size() - 1).places.back();
    }
  }
}

std::int64_t PaddedDocuments::left_padding(std::size_t shard, std::int64_t document) const {
  if (!options_.random_first) return 0;
  const CounterRandom random(options_.seed, hash_name("data.padding"));
  const std::uint64_t counter = static_cast<std::uint64_t>(numbers_[shard]) << kDocumentBits |
                                static_cast<std::uint64_t>(document);
  return static_cast<std::int64_t>(random.bits(counter) %
                                   static_cast<std::uint64_t>(options_.block));
}

PaddedDocuments::Decoded PaddedDocuments::decode(std::size_t number) const {
  const Group& g = groups_[number];
  Decoded decoded;
  decoded.group = number;
  decoded.offsets.resize(static_cast<std::size_t>(g.documents) + 1);
  pool_.read_documents(first_ + g.shard, g.document, decoded.offsets);
  decoded.places.reserve(decoded.offsets.size());
  decoded.places.push_back(g.begin);
  for (std::int64_t d = 0; d < g.documents; ++d) {
    const auto i = static_cast<std::size_t>(d);
    const std::int64_t length = decoded.offsets[i + 1] - decoded.offsets[i];
    const std::int64_t padded = length == 0
                                    ? 0
                                    : round_up(checked_add(left_padding(g.shard, g.document + d),
                                                           length, "a document with its padding"),
                                               options_.block);
    decoded.places.push_back(
        checked_add(decoded.places.back(), padded, "tokens of all documents with their padding"));
  }
  return decoded;
}

PaddedDocuments::Handle PaddedDocuments::group(std::size_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(recent_.begin(), recent_.end(),
                                  [&](const Handle& each) { return each->group == number; });
  if (found != recent_.end()) {
    recent_.splice(recent_.begin(), recent_, found);
  } else {
    recent_.push_front(std::make_shared<Decoded>(decode(number)));
    if (recent_.size() > kGroups) recent_.pop_back();
  }
  return recent_.front();
}

std::vector<PaddedDocuments::Piece> PaddedDocuments::pieces(std::int64_t begin, std::int64_t end) {
  TESSERA_CHECK(begin >= 0 && begin <= end && end <= size_);
  std::vector<Piece> result;
  // Takes what lies within [begin, end) of a run that starts at `place`.
  const auto take = [&](std::int64_t place, std::size_t shard, std::int64_t offset,
                        std::int64_t count) {
    const std::int64_t from = std::max(begin, place), to = std::min(end, place + count);
    if (from < to)
      result.push_back({first_ + shard, offset < 0 ? -1 : offset + (from - place), to - from});
  };
  if (begin == end) return result;
  auto number = static_cast<std::size_t>(
      std::upper_bound(groups_.begin(), groups_.end(), begin,
                       [](std::int64_t place, const Group& g) { return place < g.begin; }) -
      groups_.begin() - 1);
  for (; number < groups_.size() && groups_[number].begin < end; ++number) {
    const Group& g = groups_[number];
    const Handle decoded = group(number);
    const std::vector<std::int64_t>&places = decoded->places, &offsets = decoded->offsets;
    auto d = static_cast<std::size_t>(std::max<std::ptrdiff_t>(
        0, std::upper_bound(places.begin(), places.end(), begin) - places.begin() - 1));
    for (; d + 1 < places.size() && places[d] < end; ++d) {
      const std::int64_t length = offsets[d + 1] - offsets[d];
      if (length == 0) continue;
      const std::int64_t left = left_padding(g.shard, g.document + static_cast<std::int64_t>(d));
      take(places[d], g.shard, -1, left);
      take(places[d] + left, g.shard, offsets[d], length);
      take(places[d] + left + length, g.shard, -1, places[d + 1] - places[d] - left - length);
    }
  }
  return result;
}

}  // namespace tessera::data
