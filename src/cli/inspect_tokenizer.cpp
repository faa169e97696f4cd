// Tokenizers and their known cases, for `tessera inspect`.
#include "cli/inspections.h"
#include "core/text.h"
#include "data/tokenizer.h"
#include "data/tokenizer/cases.h"

namespace tessera::cli {
namespace {

void add_cases(Inspection& result, const data::Tokenizer& tokenizer, const std::string& file) {
  const data::CaseReport report = data::check_cases(tokenizer, file);
  OrderedJson mismatches = OrderedJson::array();
  for (const data::CaseMismatch& each : report.mismatches) {
    mismatches.push_back({{"line", each.line}, {"what", each.what}});
    result.text += "  line " + std::to_string(each.line) + ": " + each.what + "\n";
  }
  result.json["cases"] = {{"file", file},
                          {"lines", report.lines},
                          {"encoded", report.encoded},
                          {"decoded", report.decoded},
                          {"mismatches", mismatches}};
  result.text += "  " + file + ": of " + with_commas(report.lines) + " cases " +
                 with_commas(report.encoded) + " encode and " + with_commas(report.decoded) +
                 " decode as written\n";
  if (!report.passed())
    result.problems.push_back(file + ": " + with_commas(report.lines - report.encoded) + " of " +
                              with_commas(report.lines) + " cases encode otherwise and " +
                              with_commas(report.lines - report.decoded) + " decode otherwise" +
                              (report.mismatches.empty()
                                   ? ""
                                   : "; the first: line " +
                                         std::to_string(report.mismatches[0].line) + ", " +
                                         report.mismatches[0].what));
}

}  // namespace

Inspection inspect_tokenizer(const std::string& path, const std::string& cases) {
  const auto tokenizer = data::load_tokenizer(path);
  std::int64_t holes = 0;
  for (std::int64_t id = 0; id < tokenizer->vocab_size(); ++id)
    holes += tokenizer->known(static_cast<std::int32_t>(id)) ? 0 : 1;
  const std::int32_t end = tokenizer->end_of_text();
  const std::int32_t ids[] = {end};
  const std::string end_text = tokenizer->decode(ids);
  Inspection result;
  result.json = {{"kind", "tokenizer"},
                 {"path", path},
                 {"vocab_size", tokenizer->vocab_size()},
                 {"holes", holes},
                 {"end_of_text", end},
                 {"end_of_text_text", end_text},
                 {"digest", tokenizer->digest()}};
  result.text = path + ": " + with_commas(tokenizer->vocab_size()) + " ids" +
                (holes > 0 ? ", " + with_commas(holes) + " of them unused" : "") +
                "\n  end of text: " + std::to_string(end) + " " + end_text +
                "\n  SHA-256: " + tokenizer->digest() + "\n";
  if (!cases.empty()) add_cases(result, *tokenizer, cases);
  return result;
}

}  // namespace tessera::cli
