#include "data/tokenizer/cases.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{1} << 30;

struct Case {
  std::string text;
  std::vector<std::int32_t> ids;
};

Case read_case(std::string_view line, const std::string& where) {
  const Json json = parse_json(line, where);
  const auto wrong = [&](const std::string& what) {
    return Error(Category::data,
                 where + ": " + what + "; expected {\"text\": string, \"ids\": [integers]}");
  };
  if (!json.is_object()) throw wrong("not an object");
  const auto text = json.find("text"), ids = json.find("ids");
  if (text == json.end() || !text->is_string()) throw wrong("\"text\" is missing or no string");
  if (ids == json.end() || !ids->is_array()) throw wrong("\"ids\" is missing or no list");
  Case result{text->get<std::string>(), {}};
  for (const Json& id : *ids) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<std::int32_t>::max())
      throw wrong("\"ids\" holds " + id.dump() + ", which is no id");
    result.ids.push_back(id.get<std::int32_t>());
  }
  return result;
}

// Elements from a little before `place` on, for a message.
std::string ids_around(const std::vector<std::int32_t>& ids, std::size_t place) {
  const std::size_t begin = place < 3 ? 0 : place - 3, end = std::min(ids.size(), place + 5);
  std::string text = begin > 0 ? "... " : "";
  for (std::size_t k = begin; k < end; ++k) text += (k > begin ? " " : "") + std::to_string(ids[k]);
  return "[" + text + (end < ids.size() ? " ...]" : "]");
}

std::string text_around(const std::string& text, std::size_t place) {
  const std::string part = text.substr(place < 20 ? 0 : place - 20, 40);
  return Json(part).dump(-1, ' ', true, Json::error_handler_t::replace);
}

template <typename Sequence>
std::size_t first_difference(const Sequence& a, const Sequence& b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                                  a.begin());
}

}  // namespace

CaseReport check_cases_text(const Tokenizer& tokenizer, std::string_view text,
                            const std::string& name, std::size_t keep) {
  CaseReport report;
  const auto note = [&](std::int64_t line, std::string what) {
    if (report.mismatches.size() < keep) report.mismatches.push_back({line, std::move(what)});
  };
  std::int64_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Case expected = read_case(line, name + " line " + std::to_string(number));
    ++report.lines;

    const std::vector<std::int32_t> ids = tokenizer.encode(expected.text);
    if (ids == expected.ids) {
      ++report.encoded;
    } else {
      const std::size_t place = first_difference(ids, expected.ids);
      note(number, "ids differ from place " + std::to_string(place) + ": expected " +
                       ids_around(expected.ids, place) + ", found " + ids_around(ids, place));
    }
    const std::string decoded = tokenizer.decode(expected.ids);
    const std::string normalized = tokenizer.normalized(expected.text);
    if (decoded == normalized) {
      ++report.decoded;
    } else {
      const std::size_t place = first_difference(decoded, normalized);
      note(number, "decoded text differs from byte " + std::to_string(place) + ": expected " +
                       text_around(normalized, place) + ", found " + text_around(decoded, place));
    }
  }
  if (report.lines == 0) throw Error(Category::data, name + ": holds no case");
  return report;
}

CaseReport check_cases(const Tokenizer& tokenizer, const std::string& path, std::size_t keep) {
  return check_cases_text(tokenizer, FileSystem::posix().read(path, kMaxFileBytes), path, keep);
}

}  // namespace tessera::data
