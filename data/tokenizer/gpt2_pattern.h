// The ByteLevel splitting pattern of GPT-2 as a scanner:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// It cuts where a regular expression engine with Hugging Face's Unicode classes cuts.
#pragma once

#include <cstddef>
#include <string_view>

namespace tessera::data {

// The pattern in PCRE2's spelling.
extern const char* const kGpt2Pattern;

// End of the word that starts at `begin` (< text.size()); `text` is valid UTF-8 and `begin` the end
// of the word before. Never `begin` itself: the pattern leaves nothing out.
std::size_t gpt2_word_end(std::string_view text, std::size_t begin);

}  // namespace tessera::data
