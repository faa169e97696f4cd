// The table of all keys. Parsing, printing, the list of keys, differences and the rules of single
// values are loops over it; a new key is its member in config.h, one line in fields.cpp and one in
// docs/configuration.md.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/values.h"

namespace tessera::settings {

struct Field {
  std::string key;  // "model.width"
  std::function<ValueProblems(const YamlNode&, Config&)> read;
  std::function<std::string(const Config&)> print;
  // What the value alone breaks ("found 0, expected at least 1"), or "".
  std::function<std::string(const Config&)> check;
};

// In the order of config.h; keys of one section stand together.
const std::vector<Field>& fields();

// The field of a full key; nullptr when there is none.
const Field* find_field(const std::string& key);

// Sections ("run", "model", ...), in order.
const std::vector<std::string>& sections();

// The valid key or section that somebody who wrote `key` most likely meant; "" when none is near.
// `section`: what was written is a section of keys.
std::string nearest_key(const std::string& key, bool section);

}  // namespace tessera::settings
