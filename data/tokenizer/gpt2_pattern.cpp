#include "data/tokenizer/gpt2_pattern.h"

#include "data/tokenizer/unicode.h"

namespace tessera::data {

const char* const kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

namespace {

class Scanner {
 public:
  Scanner(std::string_view text, std::size_t begin)
      : flags_(unicode_flags()), begin_(text.data() + begin), end_(text.data() + text.size()) {}

  const char* word_end() const {
    if (*begin_ == '\'')
      if (const char* end = contraction()) return end;
    const char* first = begin_;
    if (*first == ' ' && first + 1 < end_) ++first;
    const std::uint8_t kind = class_at(first);
    if (kind != kSpace) return run_end(first, kind);
    return blanks_end();
  }

 private:
  std::uint8_t class_at(const char* at) const {
    const auto byte = static_cast<unsigned char>(*at);
    return flags_[byte < 0x80 ? byte : code_point_at(at).value] & kClassMask;
  }

  // Where the run of code points of one class ends that starts at `at`.
  const char* run_end(const char* at, std::uint8_t kind) const {
    while (at < end_) {
      const auto byte = static_cast<unsigned char>(*at);
      if (byte < 0x80) {
        if ((flags_[byte] & kClassMask) != kind) break;
        ++at;
      } else {
        const CodePoint point = code_point_at(at);
        if ((flags_[point.value] & kClassMask) != kind) break;
        at += point.bytes;
      }
    }
    return at;
  }

  // The end of 's, 't, 'm, 'd, 're, 've or 'll; null when none is here.
  const char* contraction() const {
    const char first = begin_ + 1 < end_ ? begin_[1] : '\0';
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return begin_ + 2;
    const char second = begin_ + 2 < end_ ? begin_[2] : '\0';
    const bool two =
        (second == 'e' && (first == 'r' || first == 'v')) || (second == 'l' && first == 'l');
    return two ? begin_ + 3 : nullptr;
  }

  // A run of blanks leaves its last one to the word that follows, if it has more than one.
  const char* blanks_end() const {
    const char* end = run_end(begin_, kSpace);
    if (end == end_) return end;
    const char* last = end;
    do --last;
    while ((static_cast<unsigned char>(*last) & 0xC0) == 0x80);
    return last == begin_ ? end : last;
  }

  const std::uint8_t* flags_;
  const char* begin_;
  const char* end_;
};

}  // namespace

std::size_t gpt2_word_end(std::string_view text, std::size_t begin) {
  return static_cast<std::size_t>(Scanner(text, begin).word_end() - text.data());
}

}  // namespace tessera::data
