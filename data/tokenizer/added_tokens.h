// Added tokens are cut out of a text before it is split into words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::data {

// An entry of `added_tokens` in a tokenizer.json.
struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;
  bool single_word = false;  // not where a word character is beside it
  bool lstrip = false;       // takes the blanks before it along
  bool rstrip = false;       // takes the blanks behind it along
  bool normalized = true;    // looked for in the normalised text, else before normalising
};

// Finds tokens in a text: from left to right, of those that start at one place the longest.
class AddedTokenMatcher {
 public:
  struct Piece {
    std::int32_t id;  // -1: text between tokens
    std::size_t begin;
    std::size_t end;
  };

  // Contents are not empty and differ.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }
  // Appends the pieces of `text` (valid UTF-8) in order; no piece of text is empty.
  void cut(std::string_view text, std::vector<Piece>& pieces) const;

 private:
  // The longest token that starts at `position`, or null.
  const AddedToken* longest_at(std::string_view text, std::size_t position) const;
  bool may_start(std::string_view text, std::size_t position) const {
    const auto first = static_cast<unsigned char>(text[position]);
    const auto second =
        position + 1 < text.size() ? static_cast<unsigned char>(text[position + 1]) : 0u;
    const unsigned pair = first << 8 | second;
    return starts_[pair >> 6] >> (pair & 63) & 1;
  }

  std::vector<AddedToken> tokens_;     // sorted by content
  std::vector<std::uint64_t> starts_;  // a bit for every first two bytes of a token
};

}  // namespace tessera::data
