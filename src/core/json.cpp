#include "core/json.h"

#include <set>
#include <vector>

#include "core/error.h"
#include "core/text.h"

namespace tessera {

Json parse_json(std::string_view text, const std::string& what) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > 64) throw Error(Category::data, what + ": JSON nested deeper than 64 levels");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys.back().insert(key).second)
        throw Error(Category::data,
                    what + ": key " + in_quotes(key) + " appears twice in one object");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& problem) {
    throw Error(Category::data, what + ": not valid JSON: " + problem.what());
  }
}

}  // namespace tessera
