// Splitting text by any regular expression, through PCRE2: for tokenizers whose pattern is not
// GPT-2's.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::data {

struct Span {
  std::size_t begin;
  std::size_t end;
};

// Immutable; may be used from many threads.
class RegexSplit {
 public:
  // `pattern` in Perl's syntax, or plain text when `literal`. With `only_matches` the text between
  // matches is dropped, else both are kept. `name` is the file named in errors; Error{data} when
  // the pattern does not compile.
  RegexSplit(const std::string& pattern, bool literal, bool only_matches, std::string name);
  ~RegexSplit();
  RegexSplit(RegexSplit&&) noexcept;

  // Appends the pieces of text[begin, end) in order; none is empty. `text` is valid UTF-8. The
  // pattern sees this stretch alone. Error{data} when matching takes too much memory or time.
  void split(std::string_view text, Span within, std::vector<Span>& pieces) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
  bool only_matches_;
  std::string name_;
};

}  // namespace tessera::data
