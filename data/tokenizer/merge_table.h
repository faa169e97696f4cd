// The merges of a BPE model: which two neighbouring tokens become which one, and how soon.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera::data {

struct Merge {
  std::int32_t left;
  std::int32_t right;
  std::int32_t result;
};

// Immutable hash table keyed by (left, right).
class MergeTable {
 public:
  static constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

  struct Found {
    std::uint32_t rank;   // kNoRank: the two do not merge
    std::int32_t result;  // the merged token
  };

  // Rank = place in `merges`; of equal pairs the last counts, as in Hugging Face's library. Ids are
  // not negative.
  explicit MergeTable(std::span<const Merge> merges);

  Found find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = pair_key(left, right);
    for (std::size_t slot = home(key);; slot = (slot + 1) & mask_) {
      const Slot& at = slots_[slot];
      if (at.key == key) return at.found;
      if (at.key == kEmpty) return {kNoRank, -1};
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kEmpty;
    Found found = {kNoRank, -1};
  };

  static std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t home(std::uint64_t key) const {
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);
  }

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::size_t mask_ = 0;
  int shift_ = 0;
};

// Scratch memory of `merge_word`; one a thread at a time.
struct MergeScratch {
  struct Symbol {
    std::int32_t id;  // -1: merged into the symbol before
    std::uint32_t previous;
    std::uint32_t next;
  };
  std::vector<std::uint32_t> ranks;
  std::vector<Symbol> symbols;
  std::vector<std::uint64_t> queue;  // rank << 32 | place of the left symbol; a heap
};

// Merges neighbours in `ids`, always the pair of lowest rank and of those the leftmost, until none
// is left. Time: n log n in the length (quadratic only up to a small fixed length). Error{data}
// when `ids` is longer than 2^32 - 2.
void merge_word(const MergeTable& merges, std::vector<std::int32_t>& ids, MergeScratch& scratch);

}  // namespace tessera::data
