// Remembers the ids of short words: text repeats its words, and looking one up takes far less time
// than merging it. Fixed memory; a new word takes the place of an old one that shares its slot.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace tessera::data {

class WordCache {
 public:
  static constexpr std::size_t kMaxBytes = 26;  // longer words are not remembered
  static constexpr std::size_t kMaxIds = 9;     // nor words of more ids
  static constexpr std::size_t kEntries = std::size_t{1} << 16;

  struct alignas(64) Entry {
    std::uint8_t bytes = 0;  // 0: empty
    std::uint8_t count = 0;
    char word[kMaxBytes] = {};
    std::int32_t ids[kMaxIds] = {};
  };

  WordCache() : entries_(kEntries) {}

  // The slot of a word of 1 to kMaxBytes bytes.
  Entry& slot(std::string_view word) { return entries_[hash(word) >> (64 - 16)]; }

  static bool holds(const Entry& entry, std::string_view word) {
    return entry.bytes == word.size() && std::memcmp(entry.word, word.data(), word.size()) == 0;
  }

  // Puts a word into its slot; `ids` may be longer than kMaxIds, then nothing happens.
  static void store(Entry& entry, std::string_view word, std::span<const std::int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    entry.bytes = static_cast<std::uint8_t>(word.size());
    entry.count = static_cast<std::uint8_t>(ids.size());
    std::memcpy(entry.word, word.data(), word.size());
    std::copy(ids.begin(), ids.end(), entry.ids);
  }

 private:
  static std::uint64_t read(const char* at, std::size_t count) {
    std::uint64_t value = 0;
    std::memcpy(&value, at, count);
    return value;
  }

  static std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    const std::uint64_t product = (a ^ b) * 0x9E3779B97F4A7C15u;
    return (product ^ product >> 32) * 0xD6E8FEB86659FD93u;
  }

  // First and last bytes, overlapping, cover words of up to 16 bytes; the middle the longer ones.
  static std::uint64_t hash(std::string_view word) {
    const std::size_t size = word.size();
    const char* at = word.data();
    if (size < 4)
      return mix(read(at, 1) | read(at + size / 2, 1) << 8 | read(at + size - 1, 1) << 16, size);
    if (size < 8) return mix(read(at, 4) << 32 | read(at + size - 4, 4), size);
    std::uint64_t value = mix(read(at, 8), size);
    if (size > 16) value = mix(read(at + 8, 8), value);
    return mix(read(at + size - 8, 8), value);
  }

  std::vector<Entry> entries_;
};

}  // namespace tessera::data
