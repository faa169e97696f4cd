#include "data/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "data/tokenizer/unicode.h"

namespace tessera::data {
namespace {

std::uint8_t flags_at(std::string_view text, std::size_t position) {
  return unicode_flags()[code_point_at(text.data() + position).value];
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && (flags_at(text, previous_code_point(text, text.size())) & kWord);
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && (flags_at(text, 0) & kWord);
}

bool blank_at(std::string_view text, std::size_t position) {
  return (flags_at(text, position) & kClassMask) == kSpace;
}

// Where the blanks at the end of `text` begin.
std::size_t blanks_before(std::string_view text) {
  std::size_t position = text.size();
  while (position > 0) {
    const std::size_t before = previous_code_point(text, position);
    if (!blank_at(text, before)) break;
    position = before;
  }
  return position;
}

// Where the blanks that start at `position` end.
std::size_t blanks_behind(std::string_view text, std::size_t position) {
  while (position < text.size() && blank_at(text, position))
    position += code_point_at(text.data() + position).bytes;
  return position;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), starts_(65536 / 64) {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_) {
    const unsigned first = static_cast<unsigned char>(token.content[0]);
    for (unsigned second = 0; second < 256; ++second) {
      if (token.content.size() > 1 && static_cast<unsigned char>(token.content[1]) != second)
        continue;
      const unsigned pair = first << 8 | second;
      starts_[pair >> 6] |= std::uint64_t{1} << (pair & 63);
    }
  }
}

// Narrows the sorted contents to those that agree with the text, a byte at a time. The shortest of
// them comes first, so it is the one that may end here.
const AddedToken* AddedTokenMatcher::longest_at(std::string_view text, std::size_t position) const {
  const AddedToken* longest = nullptr;
  auto low = tokens_.begin(), high = tokens_.end();
  for (std::size_t depth = 0; position + depth < text.size(); ++depth) {
    const auto byte = static_cast<unsigned char>(text[position + depth]);
    const auto value = [depth](const AddedToken& token) {
      return depth < token.content.size() ? static_cast<unsigned char>(token.content[depth]) : -1;
    };
    low = std::partition_point(low, high, [&](const AddedToken& t) { return value(t) < byte; });
    high = std::partition_point(low, high, [&](const AddedToken& t) { return value(t) <= byte; });
    if (low == high) break;
    if (low->content.size() == depth + 1) longest = &*low;
  }
  return longest;
}

// The order of the steps, and that blanks taken along are not skipped by the search, are those of
// Hugging Face's library.
void AddedTokenMatcher::cut(std::string_view text, std::vector<Piece>& pieces) const {
  std::size_t done = 0;
  for (std::size_t position = 0; !empty() && position < text.size();) {
    const AddedToken* token = may_start(text, position) ? longest_at(text, position) : nullptr;
    if (!token) {
      ++position;
      continue;
    }
    std::size_t begin = position, end = position + token->content.size();
    position = end;
    if (token->single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (token->lstrip) begin = std::max(blanks_before(text.substr(0, begin)), done);
    if (token->rstrip) end = blanks_behind(text, end);
    if (done < begin) pieces.push_back({-1, done, begin});
    pieces.push_back({token->id, begin, end});
    done = end;
  }
  if (done < text.size()) pieces.push_back({-1, done, text.size()});
}

}  // namespace tessera::data
