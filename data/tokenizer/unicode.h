// UTF-8 and the few properties of code points that tokenization asks for.
//
// The properties are kept here (unicode_ranges.cpp) instead of asked of a library, because PCRE2
// and utf8proc follow the system's Unicode version while token ids must not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tessera::data {

// Flags of a code point. The two lowest bits hold its class in the splitting patterns.
inline constexpr std::uint8_t kClassMask = 3;
inline constexpr std::uint8_t kOther = 0;
inline constexpr std::uint8_t kLetter = 1;  // \p{L}
inline constexpr std::uint8_t kNumber = 2;  // \p{N}
inline constexpr std::uint8_t kSpace = 3;   // \s
inline constexpr std::uint8_t kWord = 4;    // \w at the edges of `single_word` tokens
inline constexpr std::uint8_t kActive =
    8;  // NFC may change it, move it or join it to the one before

inline constexpr std::uint32_t kCodePoints = 0x110000;

// Runs of equal flags: first code point << 8 | flags, ascending, from code point 0.
extern const std::uint32_t kUnicodeRuns[];
extern const std::size_t kUnicodeRunCount;

// The flags of every code point, [kCodePoints]; built on first use.
const std::uint8_t* unicode_flags();

struct CodePoint {
  std::uint32_t value;
  std::uint32_t bytes;  // 1 to 4
};

// The code point at `text`, which must be the start of one in valid UTF-8.
inline CodePoint code_point_at(const char* text) {
  const auto* b = reinterpret_cast<const unsigned char*>(text);
  if (b[0] < 0x80) return {b[0], 1};
  if (b[0] < 0xE0) return {(b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu), 2};
  if (b[0] < 0xF0) return {(b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu), 3};
  return {(b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu), 4};
}

// Where the code point before `position` (> 0) starts, in valid UTF-8.
inline std::size_t previous_code_point(std::string_view text, std::size_t position) {
  do --position;
  while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  return position;
}

void append_utf8(std::uint32_t code_point, std::string& text);

bool all_ascii(std::string_view text);
bool valid_utf8(std::string_view text);
// `text` with U+FFFD for every longest invalid beginning of a sequence, as browsers and JSON
// readers do.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace tessera::data
