#include "data/tokenizer/merge_table.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "core/error.h"

namespace tessera::data {

MergeTable::MergeTable(std::span<const Merge> merges) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(16, 2 * merges.size()));
  slots_.resize(slots);
  mask_ = slots - 1;
  shift_ = 64 - std::countr_zero(slots);
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const std::uint64_t key = pair_key(merge.left, merge.right);
    std::size_t slot = home(key);
    while (slots_[slot].key != kEmpty && slots_[slot].key != key) slot = (slot + 1) & mask_;
    slots_[slot] = {key, {static_cast<std::uint32_t>(rank), merge.result}};
  }
}

namespace {

constexpr std::size_t kShortWord = 48;
constexpr std::uint32_t kNone = 0xFFFFFFFF;

// Short words: ranks of all pairs in an array, the lowest found by looking at each.
void merge_short(const MergeTable& merges, std::vector<std::int32_t>& ids, MergeScratch& scratch) {
  auto& ranks = scratch.ranks;  // of (ids[k], ids[k + 1])
  std::size_t count = ids.size();
  ranks.resize(count);
  for (std::size_t k = 0; k + 1 < count; ++k) ranks[k] = merges.find(ids[k], ids[k + 1]).rank;
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t k = 1; k + 1 < count; ++k)
      if (ranks[k] < ranks[best]) best = k;
    if (ranks[best] == MergeTable::kNoRank) break;
    ids[best] = merges.find(ids[best], ids[best + 1]).result;
    for (std::size_t k = best + 1; k + 1 < count; ++k) {
      ids[k] = ids[k + 1];
      ranks[k] = ranks[k + 1];
    }
    --count;
    if (best + 1 < count) ranks[best] = merges.find(ids[best], ids[best + 1]).rank;
    if (best > 0) ranks[best - 1] = merges.find(ids[best - 1], ids[best]).rank;
  }
  ids.resize(count);
}

// Long words: a linked list of symbols and a heap of candidates. A candidate is out of date when
// its pair no longer has its rank (ranks are one to a pair).
class LongMerge {
 public:
  LongMerge(const MergeTable& merges, MergeScratch& scratch)
      : merges_(merges), symbols_(scratch.symbols), queue_(scratch.queue) {}

  void run(std::vector<std::int32_t>& ids) {
    if (ids.size() >= kNone)
      throw Error(Category::data, "a word of " + std::to_string(ids.size()) +
                                      " bytes cannot be tokenized: at most 4 GiB are possible");
    const auto count = static_cast<std::uint32_t>(ids.size());
    symbols_.clear();
    symbols_.reserve(count);
    for (std::uint32_t k = 0; k < count; ++k)
      symbols_.push_back({ids[k], k - 1, k + 1 < count ? k + 1 : kNone});
    queue_.clear();
    for (std::uint32_t k = 0; k + 1 < count; ++k) offer(k, false);
    std::make_heap(queue_.begin(), queue_.end(), std::greater<>());
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
      const std::uint64_t candidate = queue_.back();
      queue_.pop_back();
      take(static_cast<std::uint32_t>(candidate), static_cast<std::uint32_t>(candidate >> 32));
    }
    ids.clear();
    for (std::uint32_t k = 0; k != kNone; k = symbols_[k].next) ids.push_back(symbols_[k].id);
  }

 private:
  void offer(std::uint32_t left, bool sift) {
    const std::uint32_t next = symbols_[left].next;
    if (next == kNone) return;
    const std::uint32_t rank = merges_.find(symbols_[left].id, symbols_[next].id).rank;
    if (rank == MergeTable::kNoRank) return;
    queue_.push_back(static_cast<std::uint64_t>(rank) << 32 | left);
    if (sift) std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
  }

  void take(std::uint32_t left, std::uint32_t rank) {
    MergeScratch::Symbol& symbol = symbols_[left];
    if (symbol.id < 0 || symbol.next == kNone) return;
    MergeScratch::Symbol& eaten = symbols_[symbol.next];
    const MergeTable::Found found = merges_.find(symbol.id, eaten.id);
    if (found.rank != rank) return;
    symbol.id = found.result;
    eaten.id = -1;
    symbol.next = eaten.next;
    if (symbol.next != kNone) symbols_[symbol.next].previous = left;
    offer(left, true);
    if (symbol.previous != kNone) offer(symbol.previous, true);
  }

  const MergeTable& merges_;
  std::vector<MergeScratch::Symbol>& symbols_;
  std::vector<std::uint64_t>& queue_;
};

}  // namespace

void merge_word(const MergeTable& merges, std::vector<std::int32_t>& ids, MergeScratch& scratch) {
  if (ids.size() < 2) return;
  if (ids.size() <= kShortWord) return merge_short(merges, ids, scratch);
  LongMerge(merges, scratch).run(ids);
}

}  // namespace tessera::data
