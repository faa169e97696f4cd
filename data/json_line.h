// Takes one string out of a JSON object without building the rest: corpora carry metadata of any
// size beside their text.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace tessera::data {

// What is wrong with a line, without file and line number.
class JsonLineError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Puts the string under `key` of the object `line` into `text` (replacing it) as valid UTF-8.
// Returns whether it had to be repaired: invalid UTF-8 and lone surrogate escapes become U+FFFD.
// The whole line is checked to be JSON (RFC 8259; up to 512 levels of nesting). JsonLineError when
// it is not, or when the key is missing, appears twice or holds no string.
bool extract_text(std::string_view line, std::string_view key, std::string& text);

}  // namespace tessera::data
