#include "data/tokenizer/byte_alphabet.h"

#include <array>

#include "data/tokenizer/unicode.h"

namespace tessera::data {
namespace {

constexpr std::uint32_t kAlphabetEnd = 0x144;

// Bytes that stand for themselves: the visible characters of Latin-1, soft hyphen excepted.
constexpr bool visible(std::uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Alphabet {
  std::array<std::uint32_t, 256> characters{};
  std::array<int, kAlphabetEnd> bytes{};  // -1: not of the alphabet
};

// The other bytes take the characters from U+0100 on, in order.
constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.bytes.fill(-1);
  std::uint32_t next = 0x100;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const std::uint32_t character = visible(byte) ? byte : next++;
    alphabet.characters[byte] = character;
    alphabet.bytes[character] = static_cast<int>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::uint32_t byte_character(std::uint8_t byte) {
  return kAlphabet.characters[byte];
}

std::optional<std::string> bytes_of(std::string_view written) {
  std::string bytes;
  for (std::size_t position = 0; position < written.size();) {
    const CodePoint point = code_point_at(written.data() + position);
    position += point.bytes;
    if (point.value >= kAlphabetEnd || kAlphabet.bytes[point.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.bytes[point.value]));
  }
  return bytes;
}

}  // namespace tessera::data
