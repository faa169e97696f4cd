#include "config/values.h"

#include <charconv>
#include <cmath>
#include <system_error>

#include "core/text.h"

namespace tessera::settings {
namespace {

using Kind = YamlNode::Kind;

ValueProblems expected(const YamlNode& node, const std::string& what) {
  return {{node.line, "", "found " + described(node) + ", expected " + what}};
}

template <typename Integer>
ValueProblems read_integer(const YamlNode& node, const std::string& what, Integer& value) {
  const std::string& text = node.text;
  const std::size_t sign = text.starts_with('-') ? 1 : 0;
  const bool digits = text.size() > sign &&
                      text.find_first_not_of("0123456789", sign) == std::string::npos &&
                      (text[sign] != '0' || text.size() == sign + 1);
  if (node.kind != Kind::scalar || node.quoted || !digits) return expected(node, what);
  Integer result{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), result);
  if (code != std::errc{} || end != text.data() + text.size())
    return expected(node, what + " that fits in 64 bits");
  value = result;
  return {};
}

// Problems of one element, as problems of the list.
void add_part(ValueProblems& problems, const ValueProblems& more, const std::string& part) {
  for (const ValueProblem& problem : more)
    problems.push_back({problem.line, part + problem.part, problem.text});
}

std::string at(std::size_t index) {
  return "[" + std::to_string(index) + "]";
}

ValueProblems read_source(const YamlNode& node, DataSource& source) {
  if (node.kind == Kind::scalar) return read_value(node, source.path);
  if (node.kind != Kind::map) return expected(node, "a path or a map {path: ..., weight: ...}");
  ValueProblems problems;
  bool has_path = false;
  for (const YamlNode& child : node.children) {
    if (child.key == "path") {
      has_path = true;
      add_part(problems, read_value(child, source.path), ".path");
    } else if (child.key == "weight") {
      add_part(problems, read_value(child, source.weight), ".weight");
    } else {
      const std::string guess = nearest(shown(child.key), {"path", "weight"});
      problems.push_back({child.line, "." + shown(child.key),
                          guess.empty() ? "unknown key; valid are path and weight"
                                        : "unknown key; did you mean " + guess + "?"});
    }
  }
  if (!has_path && problems.empty())
    problems.push_back({node.line, "", "has no path; expected {path: ..., weight: ...}"});
  return problems;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      constexpr const char* kDigits = "0123456789abcdef";
      out += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out + "\"";
}

template <typename List>
std::string print_list(const List& list) {
  std::string out;
  for (const auto& element : list) out += (out.empty() ? "" : ", ") + print_value(element);
  return "[" + out + "]";
}

}  // namespace

std::string described(const YamlNode& node) {
  switch (node.kind) {
    case Kind::nothing:
      return "nothing";
    case Kind::scalar:
      return node.quoted ? "the text \"" + shown(node.text) + "\"" : shown(node.text);
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a map";
  }
  return "";
}

ValueProblems read_value(const YamlNode& node, std::int64_t& value) {
  return read_integer(node, "a whole number", value);
}

ValueProblems read_value(const YamlNode& node, std::uint64_t& value) {
  return read_integer(node, "a whole number of at least 0", value);
}

ValueProblems read_value(const YamlNode& node, double& value) {
  const std::string what = "a number such as 0.1 or 6e-4";
  const std::string& text = node.text;
  if (node.kind != Kind::scalar || node.quoted) return expected(node, what);
  // from_chars takes words (inf, nan) that are no numbers here.
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos) return expected(node, what);
  const char* first = text.data() + (text.starts_with('+') && text.size() > 1 ? 1 : 0);
  const char* last = text.data() + text.size();
  double result = 0;
  const auto [end, code] = std::from_chars(first, last, result);
  if (code == std::errc::result_out_of_range)
    return expected(node, what + " within double precision");
  if (code != std::errc{} || end != last || (first != text.data() && *first == '-'))
    return expected(node, what);
  value = result;
  return {};
}

ValueProblems read_value(const YamlNode& node, std::string& value) {
  if (node.kind != Kind::scalar) return expected(node, "text");
  value = node.text;
  return {};
}

ValueProblems read_value(const YamlNode& node, std::array<double, 2>& value) {
  const std::string what = "a list of two numbers such as [0.9, 0.95]";
  if (node.kind != Kind::list) return expected(node, what);
  if (node.children.size() != 2)
    return {{node.line, "",
             "found a list of " + std::to_string(node.children.size()) + ", expected " + what}};
  ValueProblems problems;
  std::array<double, 2> result{};
  for (std::size_t i = 0; i < 2; ++i)
    add_part(problems, read_value(node.children[i], result[i]), at(i));
  if (problems.empty()) value = result;
  return problems;
}

ValueProblems read_value(const YamlNode& node, std::vector<std::string>& value) {
  if (node.kind == Kind::scalar) {
    value = {node.text};
    return {};
  }
  if (node.kind != Kind::list) return expected(node, "a word or a list of words");
  ValueProblems problems;
  std::vector<std::string> result(node.children.size());
  for (std::size_t i = 0; i < result.size(); ++i)
    add_part(problems, read_value(node.children[i], result[i]), at(i));
  if (problems.empty()) value = std::move(result);
  return problems;
}

ValueProblems read_value(const YamlNode& node, std::vector<DataSource>& value) {
  if (node.kind == Kind::scalar) {
    value = {DataSource{node.text, 1.0}};
    return {};
  }
  if (node.kind != Kind::list)
    return expected(node, "a path, a list of paths, or a list of {path: ..., weight: ...}");
  ValueProblems problems;
  std::vector<DataSource> result(node.children.size());
  for (std::size_t i = 0; i < result.size(); ++i)
    add_part(problems, read_source(node.children[i], result[i]), at(i));
  if (problems.empty()) value = std::move(result);
  return problems;
}

ValueProblems read_choice(const YamlNode& node, const Spellings& choices, std::size_t& choice) {
  std::string what;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (node.kind == Kind::scalar && node.text == choices[i]) {
      choice = i;
      return {};
    }
    what += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + choices[i];
  }
  const std::string guess =
      node.kind == Kind::scalar ? nearest(shown(node.text), choices) : std::string();
  return expected(node, what + (guess.empty() ? "" : "; did you mean " + guess + "?"));
}

std::string print_value(std::int64_t value) {
  return std::to_string(value);
}

std::string print_value(std::uint64_t value) {
  return std::to_string(value);
}

std::string print_value(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? ".nan" : value < 0 ? "-.inf" : ".inf";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  std::string out(text, end);
  // 6e-04 -> 6e-4, 1e+05 -> 1e5
  if (const std::size_t e = out.find('e'); e != std::string::npos) {
    std::size_t digits = e + 2;
    while (digits + 1 < out.size() && out[digits] == '0') ++digits;
    out = out.substr(0, e + 1) + (out[e + 1] == '-' ? "-" : "") + out.substr(digits);
  }
  return out;
}

std::string print_value(const std::string& value) {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+-";
  const bool plain = !value.empty() && value.find_first_not_of(kPlain) == std::string::npos &&
                     value[0] != '-' && value != "null" && value != "Null" && value != "NULL";
  return plain ? value : quoted(value);
}

std::string print_value(const std::array<double, 2>& value) {
  return print_list(value);
}

std::string print_value(const std::vector<std::string>& value) {
  return print_list(value);
}

std::string print_value(const std::vector<DataSource>& value) {
  std::string out;
  for (const DataSource& source : value)
    out += (out.empty() ? "" : ", ") + ("{path: " + print_value(source.path)) +
           ", weight: " + print_value(source.weight) + "}";
  return "[" + out + "]";
}

}  // namespace tessera::settings
