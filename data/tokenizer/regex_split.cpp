#include "data/tokenizer/regex_split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <cstdint>
#include <new>
#include <utility>

#include <pcre2.h>

#include "core/error.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/unicode_pattern.h"

namespace tessera::data {
namespace {

constexpr std::size_t kStackStart = 32 * 1024;
constexpr std::size_t kStackLimit = 16 * 1024 * 1024;

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

template <typename T, void (*release)(T*)>
struct Release {
  void operator()(T* object) const { release(object); }
};
template <typename T, void (*release)(T*)>
using Owned = std::unique_ptr<T, Release<T, release>>;

// What a match writes to. One a thread: making it anew for each text would cost more than a match.
struct MatchScratch {
  Owned<pcre2_match_data, pcre2_match_data_free> data{pcre2_match_data_create(16, nullptr)};
  Owned<pcre2_match_context, pcre2_match_context_free> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack, pcre2_jit_stack_free> stack{
      pcre2_jit_stack_create(kStackStart, kStackLimit, nullptr)};

  MatchScratch() {
    if (!data || !context) throw std::bad_alloc();
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

}  // namespace

struct RegexSplit::Code {
  Owned<pcre2_code, pcre2_code_free> code;
};

RegexSplit::RegexSplit(const std::string& pattern, bool literal, bool only_matches,
                       std::string name)
    : code_(std::make_unique<Code>()), only_matches_(only_matches), name_(std::move(name)) {
  const std::string expression = literal ? pattern : pin_unicode_classes(pattern, name_);
  int error = 0;
  PCRE2_SIZE where = 0;
  const std::uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP);
  code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()),
                                  expression.size(), options, &error, &where, nullptr));
  if (!code_->code)
    throw Error(Category::data, name_ + ": the pre-tokenizer's pattern \"" + pattern +
                                    "\" is not understood: " + pcre2_message(error));
  // Without a just-in-time compiler for this processor matching is slower, not different.
  pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE);
}

RegexSplit::~RegexSplit() = default;
RegexSplit::RegexSplit(RegexSplit&&) noexcept = default;

void RegexSplit::split(std::string_view text, Span within, std::vector<Span>& pieces) const {
  thread_local MatchScratch scratch;
  const std::string_view subject = text.substr(within.begin, within.end - within.begin);
  const auto add = [&](std::size_t begin, std::size_t end) {
    if (begin < end) pieces.push_back({within.begin + begin, within.begin + end});
  };
  std::size_t done = 0, start = 0;
  while (start < subject.size()) {
    const int found =
        pcre2_match(code_->code.get(), reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(),
                    start, PCRE2_NO_UTF_CHECK, scratch.data.get(), scratch.context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0)
      throw Error(Category::data, name_ + ": the pre-tokenizer's pattern cannot split a text of " +
                                      std::to_string(subject.size()) +
                                      " bytes: " + pcre2_message(found));
    const PCRE2_SIZE* match = pcre2_get_ovector_pointer(scratch.data.get());
    const std::size_t begin = match[0], end = match[1];
    if (!only_matches_) add(done, begin);
    add(begin, end);
    done = end;
    // Behind an empty match, which only cuts, the search goes on at the next code point.
    start = end;
    if (begin == end && end < subject.size()) start += code_point_at(subject.data() + end).bytes;
    if (begin == end && end == subject.size()) break;
  }
  if (!only_matches_) add(done, subject.size());
}

}  // namespace tessera::data
