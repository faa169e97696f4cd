#include "data/tokenizer/json_fields.h"

#include <utility>

namespace tessera::data {

std::string shown(const Json& json) {
  if (json.is_object()) return "an object";
  if (json.is_array()) return "a list";
  std::string text = json.dump(-1, ' ', true);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

bool read_id(const Json& json, std::int64_t limit, std::int32_t& id) {
  if (!json.is_number_integer()) return false;
  if (json.is_number_unsigned()) {
    if (json.get<std::uint64_t>() >= static_cast<std::uint64_t>(limit)) return false;
  } else if (json.get<std::int64_t>() < 0 || json.get<std::int64_t>() >= limit) {
    return false;
  }
  id = json.get<std::int32_t>();
  return true;
}

JsonFields::JsonFields(const Json& json, std::string file, std::string where)
    : json_(json), file_(std::move(file)), where_(std::move(where)) {
  if (!json.is_object()) fail("is " + shown(json) + ", expected an object");
}

void JsonFields::fail(const std::string& what) const {
  throw Error(Category::data, file_ + ": " + (where_.empty() ? "the file" : where_) + " " + what);
}

void JsonFields::fail(const std::string& key, const std::string& what) const {
  throw Error(Category::data,
              file_ + ": " + (where_.empty() ? "" : where_ + ".") + key + " " + what);
}

const Json* JsonFields::find(const char* key) const {
  const auto at = json_.find(key);
  return at == json_.end() || at->is_null() ? nullptr : &*at;
}

const Json& JsonFields::need(const char* key) const {
  const Json* value = find(key);
  if (!value) fail(key, "is missing");
  return *value;
}

bool JsonFields::boolean(const char* key, bool otherwise) const {
  const Json* value = find(key);
  if (!value) return otherwise;
  if (!value->is_boolean()) fail(key, "is " + shown(*value) + ", expected true or false");
  return value->get<bool>();
}

std::string JsonFields::text(const char* key) const {
  const Json& value = need(key);
  if (!value.is_string()) fail(key, "is " + shown(value) + ", expected a string");
  return value.get<std::string>();
}

std::string JsonFields::text(const char* key, const std::string& otherwise) const {
  return find(key) ? text(key) : otherwise;
}

std::int32_t JsonFields::id(const char* key, std::int64_t limit) const {
  std::int32_t value = 0;
  const Json& json = need(key);
  if (!read_id(json, limit, value))
    fail(key, "is " + shown(json) + ", expected an integer from 0 to " + std::to_string(limit - 1));
  return value;
}

JsonFields JsonFields::fields(const char* key) const {
  return JsonFields(need(key), file_, where_.empty() ? key : where_ + "." + key);
}

}  // namespace tessera::data
