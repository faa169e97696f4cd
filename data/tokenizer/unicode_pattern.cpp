#include "data/tokenizer/unicode_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <cstdio>
#include <string_view>

#include <pcre2.h>

#include "core/error.h"
#include "data/tokenizer/unicode.h"

namespace tessera::data {
namespace {

std::string hexadecimal(std::uint32_t point) {
  char text[16];
  std::snprintf(text, sizeof(text), "\\x{%X}", point);
  return text;
}

// All code points that `counts` accepts, as ranges of a character class.
template <typename Counts>
std::string ranges_where(Counts counts) {
  std::string ranges;
  for (std::uint32_t point = 0; point < kCodePoints; ++point) {
    if (!counts(point)) continue;
    const std::uint32_t first = point;
    while (point + 1 < kCodePoints && counts(point + 1)) ++point;
    ranges += hexadecimal(first);
    if (point > first) ranges += "-" + hexadecimal(point);
  }
  return ranges;
}

// Ranges of the code points of class `kind` that this system's PCRE2 does not match with
// `property`.
std::string missing_ranges(const char* property, std::uint8_t kind) {
  int error = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(property), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &error, &where, nullptr);
  TESSERA_CHECK(code != nullptr);
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  std::string text;
  const std::string ranges = ranges_where([&](std::uint32_t point) {
    if ((unicode_flags()[point] & kClassMask) != kind) return false;
    text.clear();
    append_utf8(point, text);
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                       PCRE2_NO_UTF_CHECK, data, nullptr) < 0;
  });
  pcre2_match_data_free(data);
  pcre2_code_free(code);
  return ranges;
}

// What stands inside a character class for each.
struct Members {
  std::string letters = "\\p{L}" + missing_ranges("\\p{L}", kLetter);
  std::string numbers = "\\p{N}" + missing_ranges("\\p{N}", kNumber);
  std::string blanks = ranges_where(
      [](std::uint32_t point) { return (unicode_flags()[point] & kClassMask) == kSpace; });
  // PCRE2 counts U+180E among the blanks.
  std::string others = "\\S\\x{180E}";
};

class Rewriter {
 public:
  Rewriter(const std::string& pattern, const std::string& name) : pattern_(pattern), name_(name) {}

  std::string run() {
    while (at_ < pattern_.size()) step();
    return result_;
  }

 private:
  bool here(std::string_view text) const { return pattern_.compare(at_, text.size(), text) == 0; }

  void copy(std::size_t count) {
    result_.append(pattern_, at_, count);
    at_ += count;
  }

  void put(std::size_t count, const std::string& members, bool negated = false) {
    at_ += count;
    result_ += in_class_ ? members : (negated ? "[^" : "[") + members + "]";
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(Category::data, name_ + ": the pre-tokenizer's pattern \"" + pattern_ + "\" uses " +
                                    what + ", which is not supported");
  }

  void step() {
    static const Members members;
    if (here("\\p{L}")) return put(5, members.letters);
    if (here("\\p{N}")) return put(5, members.numbers);
    if (here("\\s")) return put(2, members.blanks);
    if (here("\\S")) return put(2, in_class_ ? members.others : members.blanks, true);
    if (here("\\h") || here("\\H")) refuse("\\h");
    if (pattern_[at_] == '\\') return copy(2);
    if (in_class_) return step_in_class();
    if (pattern_[at_] == '[') {
      in_class_ = true;
      copy(1);
      if (at_ < pattern_.size() && pattern_[at_] == '^') copy(1);
      if (at_ < pattern_.size() && pattern_[at_] == ']') copy(1);
      return;
    }
    if (here("}+")) refuse("a \"+\" behind \"{...}\"");
    copy(1);
  }

  void step_in_class() {
    if (here("[:")) {
      const std::size_t end = pattern_.find(":]", at_);
      return copy(end == std::string::npos ? 1 : end + 2 - at_);
    }
    if (pattern_[at_] == '[') refuse("a character class inside another");
    if (here("&&")) refuse("\"&&\" in a character class");
    if (pattern_[at_] == ']') in_class_ = false;
    copy(1);
  }

  const std::string& pattern_;
  const std::string& name_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::string result_;
};

}  // namespace

std::string pin_unicode_classes(const std::string& pattern, const std::string& name) {
  return Rewriter(pattern, name).run();
}

}  // namespace tessera::data
