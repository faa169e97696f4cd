// The tokenizer's parts against slower or independent ways to the same result.
#include <algorithm>
#include <cstdlib>
#include <random>

#include <gtest/gtest.h>
#include <utf8proc.h>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/gpt2_pattern.h"
#include "data/tokenizer/merge_table.h"
#include "data/tokenizer/normalize.h"
#include "data/tokenizer/regex_split.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/word_cache.h"

namespace tessera::data {
namespace {

std::string utf8(std::uint32_t point) {
  std::string text;
  append_utf8(point, text);
  return text;
}

bool surrogate(std::uint32_t point) {
  return point >= 0xD800 && point < 0xE000;
}

// Code points that this system's PCRE2 and our table put into the same class. A PCRE2 newer than
// the table knows more letters; an older one is helped by the pattern's rewriting.
std::vector<std::uint32_t> agreed_points() {
  const RegexSplit letter("\\p{L}", false, true, "test"), number("\\p{N}", false, true, "test"),
      blank("\\s", false, true, "test");
  std::vector<std::uint32_t> points;
  for (std::uint32_t point = 0; point < kCodePoints; point += point < 0x3000 ? 1 : 7) {
    if (surrogate(point)) continue;
    const std::string text = utf8(point);
    const auto matches = [&](const RegexSplit& split) {
      std::vector<Span> pieces;
      split.split(text, {0, text.size()}, pieces);
      return !pieces.empty();
    };
    const std::uint8_t found = matches(letter)   ? kLetter
                               : matches(number) ? kNumber
                               : matches(blank)  ? kSpace
                                                 : kOther;
    if (found == (unicode_flags()[point] & kClassMask)) points.push_back(point);
  }
  return points;
}

TEST(Gpt2Pattern, ScannerCutsWherePcre2Cuts) {
  const std::vector<std::uint32_t> points = agreed_points();
  ASSERT_GT(points.size(), 150'000u);
  const RegexSplit regex(kGpt2Pattern, false, false, "test");
  const std::vector<std::string> parts = {
      " ",   "  ", "\n", "\t ", "'s",       "'t",           "'re",     "'ve", "'m",
      "'ll", "'d", "'S", "'",   "'l",       "'r",           "'v",      "a",   "Zz",
      "1",   "23", "!",  "...", "\xC2\xA0", "\xE3\x80\x80", "\xC3\xA9"};
  std::mt19937 random(3);
  for (int round = 0; round < 60'000; ++round) {
    std::string text;
    for (std::uint32_t length = 1 + random() % 14; length > 0; --length)
      text +=
          random() % 3 ? parts[random() % parts.size()] : utf8(points[random() % points.size()]);
    std::vector<Span> expected;
    regex.split(text, {0, text.size()}, expected);
    std::size_t begin = 0;
    for (const Span& span : expected) {
      ASSERT_EQ(span.begin, begin);
      ASSERT_EQ(gpt2_word_end(text, begin), span.end) << ::testing::PrintToString(text);
      begin = span.end;
    }
    ASSERT_EQ(begin, text.size());
  }
}

TEST(RegexSplit, PiecesAndGaps) {
  const auto pieces = [](const RegexSplit& split, const std::string& text) {
    std::vector<Span> spans;
    split.split(text, {1, text.size()}, spans);
    std::vector<std::string> result;
    for (const Span& span : spans) result.push_back(text.substr(span.begin, span.end - span.begin));
    return result;
  };
  using Strings = std::vector<std::string>;
  EXPECT_EQ(pieces(RegexSplit("b+", false, false, "t"), "xabbcb"), (Strings{"a", "bb", "c", "b"}));
  EXPECT_EQ(pieces(RegexSplit("b+", false, true, "t"), "xabbcb"), (Strings{"bb", "b"}));
  EXPECT_EQ(pieces(RegexSplit("b+", true, false, "t"), "xabb+c"), (Strings{"ab", "b+", "c"}));
  EXPECT_EQ(pieces(RegexSplit("(?=c)", false, false, "t"), "xabcdc"), (Strings{"ab", "cd", "c"}));
  EXPECT_EQ(pieces(RegexSplit("^", false, false, "t"), "xab"), (Strings{"ab"}));
  EXPECT_EQ(pieces(RegexSplit("z", false, true, "t"), "xab"), Strings{});
}

std::string utf8proc_nfc(const std::string& text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::string copy(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
  std::free(result);
  return copy;
}

TEST(Normalize, EqualsWholeTextNormalisation) {
  // Blocks that were complete in the reference's Unicode version. Not U+11A7: utf8proc 2.8 drops it
  // behind a Hangul syllable, which we never let it do.
  const std::pair<std::uint32_t, std::uint32_t> blocks[] = {
      {0x20, 0x530},      {0x591, 0x5C8},   {0x900, 0x980},     {0xBC0, 0xBD8},   {0x1100, 0x11A7},
      {0x1E00, 0x2000},   {0x2120, 0x2130}, {0x3040, 0x3100},   {0xAC00, 0xD7A4}, {0xF900, 0xFA6E},
      {0x1D150, 0x1D170}, {0x300, 0x350},   {0x2F800, 0x2FA1E}, {0xF71, 0xF82}};
  std::mt19937 random(9);
  std::string buffer;
  int changed = 0;
  for (int round = 0; round < 60'000; ++round) {
    std::string text;
    for (std::uint32_t length = 1 + random() % 10; length > 0; --length) {
      const auto& [low, high] = blocks[random() % 3 ? 11 : random() % std::size(blocks)];
      text += utf8(low + static_cast<std::uint32_t>(random() % (high - low)));
    }
    const std::string expected = utf8proc_nfc(text);
    ASSERT_EQ(normalize_nfc(text, buffer), expected) << ::testing::PrintToString(text);
    changed += expected != text;
  }
  EXPECT_GT(changed, 10'000);
}

TEST(Normalize, UnchangedTextIsNotCopied) {
  std::string buffer;
  const std::string text =
      "Plain, na\xC3\xAFve \xE2\x80\x9Ctext\xE2\x80\x9D \xED\x95\x9C \xE6\x97\xA5";
  EXPECT_EQ(normalize_nfc(text, buffer).data(), text.data());
  EXPECT_EQ(normalize_nfc("", buffer), "");
  EXPECT_EQ(normalize_nfc("e\xCC\x81", buffer), "\xC3\xA9");
  EXPECT_EQ(normalize_nfc("\xCC\x81", buffer), "\xCC\x81");
  const std::string filler = "\xEA\xB0\x80\xE1\x86\xA7";  // U+AC00 U+11A7
  EXPECT_EQ(normalize_nfc(filler, buffer), filler);
  const std::string newer = "q\xE0\xA3\x93\xCC\xB4";  // U+08D3, a mark newer than the reference
  EXPECT_EQ(normalize_nfc(newer, buffer), newer);
}

// Merges one by one, looking at every pair each time.
std::vector<std::int32_t> merge_slowly(const std::vector<Merge>& merges,
                                       std::vector<std::int32_t> ids) {
  for (;;) {
    std::size_t best_rank = merges.size(), best = 0;
    for (std::size_t k = 0; k + 1 < ids.size(); ++k)
      for (std::size_t rank = 0; rank < best_rank; ++rank)
        if (merges[rank].left == ids[k] && merges[rank].right == ids[k + 1]) {
          best_rank = rank;
          best = k;
        }
    if (best_rank == merges.size()) return ids;
    ids[best] = merges[best_rank].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(MergeWord, ShortAndLongWordsEqualTheDefinition) {
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    std::vector<Merge> merges;
    std::int32_t next = 3;
    for (std::uint32_t k = 1 + random() % 25; k > 0; --k) {
      const auto any = [&] {
        return static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(next));
      };
      const Merge merge{any(), any(), next};
      const auto same = [&](const Merge& m) {
        return m.left == merge.left && m.right == merge.right;
      };
      if (std::none_of(merges.begin(), merges.end(), same)) {
        merges.push_back(merge);
        ++next;
      }
    }
    const MergeTable table(merges);
    MergeScratch scratch;
    for (const std::size_t size : {0u, 1u, 2u, 3u, 17u, 47u, 48u, 49u, 50u, 131u, 200u}) {
      std::vector<std::int32_t> ids(size);
      for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % (round % 2 ? 1 : 3));
      const std::vector<std::int32_t> expected = merge_slowly(merges, ids);
      merge_word(table, ids, scratch);
      ASSERT_EQ(ids, expected) << "round " << round << " size " << size;
    }
  }
}

TEST(MergeTable, LastOfEqualPairsCountsAndAbsentPairsDoNotMerge) {
  const MergeTable table(std::vector<Merge>{{1, 2, 10}, {3, 4, 11}, {1, 2, 12}});
  EXPECT_EQ(table.find(1, 2).rank, 2u);
  EXPECT_EQ(table.find(1, 2).result, 12);
  EXPECT_EQ(table.find(2, 1).rank, MergeTable::kNoRank);
  EXPECT_EQ(MergeTable({}).find(0, 0).rank, MergeTable::kNoRank);
}

using Pieces = std::vector<std::pair<std::int32_t, std::string>>;

Pieces cut(const AddedTokenMatcher& matcher, const std::string& text) {
  std::vector<AddedTokenMatcher::Piece> pieces;
  matcher.cut(text, pieces);
  Pieces result;
  for (const auto& piece : pieces)
    result.emplace_back(piece.id, text.substr(piece.begin, piece.end - piece.begin));
  return result;
}

AddedToken token(std::int32_t id, const std::string& content) {
  AddedToken result;
  result.id = id;
  result.content = content;
  return result;
}

TEST(AddedTokens, LeftmostThenLongest) {
  const AddedTokenMatcher matcher(
      {token(1, "ab"), token(2, "abcd"), token(3, "bcde"), token(4, "x")});
  EXPECT_EQ(cut(matcher, "abcdeabc"), (Pieces{{2, "abcd"}, {-1, "e"}, {1, "ab"}, {-1, "c"}}));
  EXPECT_EQ(cut(matcher, "abcx"), (Pieces{{1, "ab"}, {-1, "c"}, {4, "x"}}));
  EXPECT_EQ(cut(matcher, "x"), (Pieces{{4, "x"}}));
  EXPECT_EQ(cut(matcher, ""), Pieces{});
  EXPECT_EQ(cut(AddedTokenMatcher({}), "abc"), (Pieces{{-1, "abc"}}));
}

TEST(AddedTokens, Flags) {
  AddedToken word = token(1, "the"), left = token(2, "<l>"), right = token(3, "<r>");
  word.single_word = left.lstrip = right.rstrip = true;
  const AddedTokenMatcher matcher({word, left, right});
  EXPECT_EQ(cut(matcher, "the other the_ the"),
            (Pieces{{1, "the"}, {-1, " other the_ "}, {1, "the"}}));
  EXPECT_EQ(cut(matcher, "a \n<l> b"), (Pieces{{-1, "a"}, {2, " \n<l>"}, {-1, " b"}}));
  EXPECT_EQ(cut(matcher, "<r> \xE3\x80\x80 <l>"), (Pieces{{3, "<r> \xE3\x80\x80 "}, {2, "<l>"}}));
}

TEST(Utf8, MaximalPartsAreReplaced) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(replace_invalid_utf8("ok \xF0\x9F\x98\x80"), "ok \xF0\x9F\x98\x80");
  EXPECT_EQ(replace_invalid_utf8("\x80\xBF"), r + r);
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), r + r);
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), r + r + r);  // a surrogate
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98z"), r + "z");
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"), r + r + r + r);
  EXPECT_EQ(replace_invalid_utf8("\xE2\x82"), r);
  EXPECT_FALSE(valid_utf8("12345678\xFF"));
  EXPECT_TRUE(all_ascii("12345678 plain"));
  EXPECT_FALSE(all_ascii("12345678\xC3\xA9"));
  for (std::uint32_t point = 0; point < kCodePoints; point += 13) {
    if (surrogate(point)) continue;
    const std::string text = utf8(point);
    ASSERT_TRUE(valid_utf8(text));
    ASSERT_EQ(code_point_at(text.data()).value, point);
    ASSERT_EQ(code_point_at(text.data()).bytes, text.size());
  }
}

TEST(ByteAlphabet, CoversAllBytesOnce) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string written = utf8(byte_character(static_cast<std::uint8_t>(byte)));
    EXPECT_EQ(bytes_of(written), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(byte_character(' '), 0x120u);
  EXPECT_EQ(byte_character('\n'), 0x10Au);
  EXPECT_EQ(byte_character(0xAD), 0x143u);
  EXPECT_EQ(bytes_of("a b"), std::nullopt);
  EXPECT_EQ(bytes_of("\xC5\x84"), std::nullopt);  // U+0144, one past the alphabet
}

TEST(WordCache, HoldsWhatWasStored) {
  WordCache cache;
  std::mt19937 random(2);
  for (int round = 0; round < 20'000; ++round) {
    std::string word(1 + random() % WordCache::kMaxBytes, 'a');
    for (char& c : word) c = static_cast<char>(random());
    // Short words come again, and a word always has the same ids.
    const std::size_t most = word.size() < 5 ? WordCache::kMaxIds : WordCache::kMaxIds + 2;
    const std::vector<std::int32_t> ids(1 + random() % most, round);
    WordCache::Entry& entry = cache.slot(word);
    WordCache::store(entry, word, ids);
    ASSERT_EQ(WordCache::holds(entry, word), ids.size() <= WordCache::kMaxIds);
    if (word.size() > 1) {
      ASSERT_FALSE(WordCache::holds(entry, word.substr(1)));
    }
    if (ids.size() <= WordCache::kMaxIds) {
      ASSERT_EQ(std::vector<std::int32_t>(entry.ids, entry.ids + entry.count), ids);
    }
  }
}

}  // namespace
}  // namespace tessera::data
