// The alphabet in which byte-level tokenizers write bytes: each of the 256 values is a printable
// character (blank is U+0120, newline U+010A, ...), so that a vocabulary is readable text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tessera::data {

// The character that stands for `byte`.
std::uint32_t byte_character(std::uint8_t byte);

// The bytes that `written` (valid UTF-8) stands for; nothing when a character is not of the
// alphabet.
std::optional<std::string> bytes_of(std::string_view written);

}  // namespace tessera::data
