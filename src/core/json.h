// JSON through nlohmann-json, with limits for text that comes from outside.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace tessera {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// Parses text from a file named `what`; Error{data} with the position when it is not JSON, nests
// deeper than 64 levels, or repeats a key in an object.
Json parse_json(std::string_view text, const std::string& what);

}  // namespace tessera
