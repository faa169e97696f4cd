#include "data/tokenizer/unicode.h"

#include <cstring>
#include <vector>

namespace tessera::data {
namespace {

// Length of the valid sequence at `position` (not ASCII), or minus the number of bytes that one
// U+FFFD replaces (Unicode 15, section 3.9, table 3-7 and "maximal subparts").
int sequence_length(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t k) -> unsigned {
    return position + k < text.size() ? static_cast<unsigned char>(text[position + k]) : 0u;
  };
  const unsigned lead = byte(0);
  unsigned low = 0x80, high = 0xBF;
  int length = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return -1;
  }
  for (int k = 1; k < length; ++k) {
    const unsigned next = byte(static_cast<std::size_t>(k));
    if (next < low || next > high) return -k;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

// Where the run of ASCII from `position` ends.
std::size_t skip_ascii(std::string_view text, std::size_t position) {
  while (position + 8 <= text.size()) {
    std::uint64_t block;
    std::memcpy(&block, text.data() + position, 8);
    if (block & 0x8080808080808080u) break;
    position += 8;
  }
  while (position < text.size() && static_cast<unsigned char>(text[position]) < 0x80) ++position;
  return position;
}

// The first byte that is not part of valid UTF-8, from `position` on; the size when all is valid.
std::size_t first_invalid(std::string_view text, std::size_t position) {
  for (;;) {
    position = skip_ascii(text, position);
    if (position == text.size()) return position;
    const int length = sequence_length(text, position);
    if (length < 0) return position;
    position += static_cast<std::size_t>(length);
  }
}

std::vector<std::uint8_t> expand_runs() {
  std::vector<std::uint8_t> flags(kCodePoints);
  for (std::size_t k = 0; k < kUnicodeRunCount; ++k) {
    const std::uint32_t begin = kUnicodeRuns[k] >> 8;
    const std::uint32_t end = k + 1 < kUnicodeRunCount ? kUnicodeRuns[k + 1] >> 8 : kCodePoints;
    std::memset(flags.data() + begin, static_cast<int>(kUnicodeRuns[k] & 0xFF), end - begin);
  }
  return flags;
}

}  // namespace

const std::uint8_t* unicode_flags() {
  static const std::vector<std::uint8_t> flags = expand_runs();
  return flags.data();
}

void append_utf8(std::uint32_t c, std::string& text) {
  const auto add = [&](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (c < 0x80) return add(c);
  if (c < 0x800) {
    add(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      add(0xE0 | c >> 12);
    } else {
      add(0xF0 | c >> 18);
      add(0x80 | (c >> 12 & 0x3F));
    }
    add(0x80 | (c >> 6 & 0x3F));
  }
  add(0x80 | (c & 0x3F));
}

bool all_ascii(std::string_view text) {
  return skip_ascii(text, 0) == text.size();
}

bool valid_utf8(std::string_view text) {
  return first_invalid(text, 0) == text.size();
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  std::size_t position = 0;
  while (position < text.size()) {
    const std::size_t stop = first_invalid(text, position);
    result.append(text.substr(position, stop - position));
    position = stop;
    if (position == text.size()) break;
    result.append("\xEF\xBF\xBD");
    position += static_cast<std::size_t>(-sequence_length(text, position));
  }
  return result;
}

}  // namespace tessera::data
