// Checks a tokenizer against lines of known ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace tessera::data {

// A line that came out otherwise.
struct CaseMismatch {
  std::int64_t line;  // from 1
  std::string what;   // one sentence: expected and found ids, or texts, around the first difference
};

struct CaseReport {
  std::int64_t lines = 0;    // lines with a case; empty lines do not count
  std::int64_t encoded = 0;  // whose text gives exactly the ids
  std::int64_t decoded = 0;  // whose ids give back the text, as the tokenizer normalises it
  std::vector<CaseMismatch> mismatches;  // the first ones

  bool passed() const { return encoded == lines && decoded == lines; }
};

// Reads `path`, JSON lines with "text" (a string) and "ids" (a list of integers); other keys are
// passed over. At most `keep` mismatches are kept. Error{data} naming file and line when a line is
// not of that form or there is none.
CaseReport check_cases(const Tokenizer& tokenizer, const std::string& path, std::size_t keep = 10);

// The same from the file's text; `name` stands for it in messages.
CaseReport check_cases_text(const Tokenizer& tokenizer, std::string_view text,
                            const std::string& name, std::size_t keep = 10);

}  // namespace tessera::data
