// YAML text as a tree that remembers lines, with limits for text that nobody has vouched for.
//
// Built from yaml-cpp's parser events instead of its node type, because the events show what nodes
// hide (anchors, aliases, repeated keys, the difference between 5 and "5") and because refusing a
// too deep event stops yaml-cpp's recursion at that depth, whatever its version guards against.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::settings {

inline constexpr std::int64_t kMaxTextBytes = 1 << 20;
inline constexpr std::size_t kMaxDepth = 32;  // lists and maps inside each other

struct YamlNode {
  enum class Kind { nothing, scalar, list, map };
  Kind kind = Kind::nothing;
  std::string text;     // scalar
  bool quoted = false;  // scalar: "5" is text, 5 is a number
  int line = 0;         // from 1
  std::string key;      // in a map: this child's key
  std::vector<YamlNode> children;
};

struct YamlProblem {
  int line = 0;     // from 1; 0 = of the text as a whole
  std::string key;  // full path such as "data.train[0].path"; "" = none
  std::string text;
};

struct YamlDocument {
  YamlNode root;  // kind nothing: the text holds no value
  std::vector<YamlProblem> problems;
};

// Never throws: whatever is wrong with the text is among the problems. Repeated keys keep their
// first value, aliases are left out; after an error of syntax, size or depth the root is nothing.
YamlDocument parse_yaml(const std::string& text);

// Text of unknown origin for a message: one line, at most 60 characters, no control characters.
std::string shown(std::string_view text);

// Whether the bytes are UTF-8 (no overlong forms, no surrogates).
bool is_utf8(std::string_view text);

}  // namespace tessera::settings
