// Typed access to the fields of a tokenizer.json, with errors that name file and key.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"
#include "core/json.h"

namespace tessera::data {

// An object of the file and how it is called in messages, for instance `model` or
// `added_tokens[3]`.
class JsonFields {
 public:
  // Error{data} when `json` is not an object.
  JsonFields(const Json& json, std::string file, std::string where);

  // Null when the key is missing or null.
  const Json* find(const char* key) const;
  // Error{data} when the key is missing or null.
  const Json& need(const char* key) const;

  // Error{data} when the value is of another type; `otherwise` when it is missing or null.
  bool boolean(const char* key, bool otherwise) const;
  std::string text(const char* key) const;
  std::string text(const char* key, const std::string& otherwise) const;
  // An integer in 0..limit-1.
  std::int32_t id(const char* key, std::int64_t limit) const;

  // The object under `key`.
  JsonFields fields(const char* key) const;

  [[noreturn]] void fail(const std::string& what) const;
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

  const std::string& file() const { return file_; }
  const Json& json() const { return json_; }

 private:
  const Json& json_;
  std::string file_;
  std::string where_;
};

// `json` as an id in 0..limit-1; nothing when it is no such integer.
bool read_id(const Json& json, std::int64_t limit, std::int32_t& id);

// The value as JSON, cut after 60 characters, for messages.
std::string shown(const Json& json);

}  // namespace tessera::data
