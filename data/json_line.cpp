#include "data/json_line.h"

#include <array>
#include <cstdint>
#include <optional>

#include "data/tokenizer/unicode.h"

namespace tessera::data {
namespace {

constexpr std::size_t kDeepest = 512;
constexpr std::uint32_t kReplacement = 0xFFFD;

// Bytes that end a run of plain characters inside a string.
constexpr std::array<bool, 256> kStops = [] {
  std::array<bool, 256> stops{};
  for (std::size_t i = 0; i < 0x20; ++i) stops[i] = true;
  stops['"'] = stops['\\'] = true;
  return stops;
}();

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// A string as it stands in the line, without its quotes.
struct RawString {
  std::string_view body;
  bool escaped = false;
};

class Scanner {
 public:
  explicit Scanner(std::string_view line) : line_(line) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw JsonLineError("not valid JSON at column " + std::to_string(at_ + 1) + ": " + what);
  }

  void skip_space() {
    while (at_ < line_.size() &&
           (line_[at_] == ' ' || line_[at_] == '\t' || line_[at_] == '\r' || line_[at_] == '\n'))
      ++at_;
  }
  bool ended() const { return at_ == line_.size(); }
  char peek() const { return ended() ? '\0' : line_[at_]; }
  bool take(char c) {
    if (peek() != c || ended()) return false;
    ++at_;
    return true;
  }
  void expect(char c, const char* where) {
    if (take(c)) return;
    fail((ended() ? std::string("the line ends where '") : std::string("expected '")) + c +
         (ended() ? "' was expected" : "'") + " " + where);
  }

  RawString string() {
    expect('"', "at the start of a string");
    const std::size_t begin = at_;
    bool escaped = false;
    while (true) {
      while (at_ < line_.size() && !kStops[static_cast<unsigned char>(line_[at_])]) ++at_;
      if (ended()) fail("the line ends inside a string");
      if (line_[at_] == '"') break;
      if (line_[at_] != '\\') fail("unescaped control character in a string");
      escaped = true;
      skip_escape();
    }
    return {line_.substr(begin, at_++ - begin), escaped};
  }

  // Any value; nesting is kept on a stack of our own.
  void skip_value() {
    std::string open;
    while (true) {
      skip_space();
      const char c = peek();
      if (c == '{' || c == '[') {
        ++at_;
        if (open.size() == kDeepest) fail("nested too deeply");
        open += c;
        skip_space();
        if (!take(c == '{' ? '}' : ']')) {
          if (c == '{') skip_key();
          continue;
        }
        open.pop_back();
      } else if (c == '"') {
        string();
      } else {
        skip_scalar();
      }
      // A value has ended: go up through what ends with it, on to what follows.
      while (true) {
        if (open.empty()) return;
        skip_space();
        if (take(',')) {
          skip_space();
          if (open.back() == '{') skip_key();
          break;
        }
        expect(open.back() == '{' ? '}' : ']', "or ',' after a value");
        open.pop_back();
      }
    }
  }

 private:
  void skip_key() {
    string();
    skip_space();
    expect(':', "after a key");
  }

  void skip_escape() {
    ++at_;  // the backslash
    const char c = peek();
    if (c == 'u') {
      for (std::size_t i = 1; i <= 4; ++i)
        if (at_ + i >= line_.size() || !is_hex(line_[at_ + i])) fail("\\u without four digits");
      at_ += 5;
      return;
    }
    if (ended() || std::string_view("\"\\/bfnrt").find(c) == std::string_view::npos)
      fail("unknown escape in a string");
    ++at_;
  }
  static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  }

  void skip_scalar() {
    for (const std::string_view word : {"true", "false", "null"})
      if (line_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return;
      }
    take('-');
    if (!take('0')) skip_digits("a value");
    if (take('.')) skip_digits("digits after the point");
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (!take('+')) take('-');
      skip_digits("digits of the exponent");
    }
  }
  void skip_digits(const char* what) {
    if (!is_digit(peek()))
      fail((ended() ? "the line ends where " : "expected ") + std::string(what) +
           (ended() ? " was expected" : ""));
    while (is_digit(peek())) ++at_;
  }

  std::string_view line_;
  std::size_t at_ = 0;
};

std::uint32_t hex4(std::string_view digits) {
  std::uint32_t value = 0;
  for (const char c : digits.substr(0, 4))
    value = value << 4 | static_cast<std::uint32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
  return value;
}

// Decodes a scanned string; returns whether a lone surrogate had to be replaced.
bool decode(const RawString& raw, std::string& text) {
  text.clear();
  if (!raw.escaped) {
    text.assign(raw.body);
    return false;
  }
  bool repaired = false;
  const std::string_view body = raw.body;
  text.reserve(body.size());
  for (std::size_t at = 0; at < body.size();) {
    const std::size_t slash = std::min(body.find('\\', at), body.size());
    text.append(body.substr(at, slash - at));
    if (slash == body.size()) break;
    const char c = body[slash + 1];
    at = slash + 2;
    if (c != 'u') {
      constexpr std::string_view kNames = "bfnrt", kValues = "\b\f\n\r\t";
      const std::size_t named = kNames.find(c);
      text += named == std::string_view::npos ? c : kValues[named];
      continue;
    }
    std::uint32_t point = hex4(body.substr(at));
    at += 4;
    if (point >= 0xD800 && point < 0xDC00 && body.substr(at).starts_with("\\u")) {
      const std::uint32_t low = hex4(body.substr(at + 2));
      if (low >= 0xDC00 && low < 0xE000) {
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
        at += 6;
      }
    }
    if (point >= 0xD800 && point < 0xE000) {
      point = kReplacement;
      repaired = true;
    }
    append_utf8(point, text);
  }
  return repaired;
}

std::string kind_of(char c) {
  if (c == '{') return "an object";
  if (c == '[') return "a list";
  if (c == 't' || c == 'f') return "a boolean";
  if (c == 'n') return "null";
  return "a number";
}

}  // namespace

bool extract_text(std::string_view line, std::string_view key, std::string& text) {
  Scanner scan(line);
  std::optional<RawString> found;
  std::string other_kind, name;
  scan.skip_space();
  scan.expect('{', "at the start of an object");
  scan.skip_space();
  if (!scan.take('}')) {
    do {
      scan.skip_space();
      const RawString raw = scan.string();
      decode(raw, name);
      scan.skip_space();
      scan.expect(':', "after a key");
      scan.skip_space();
      if (name != key) {
        scan.skip_value();
      } else if (found || !other_kind.empty()) {
        throw JsonLineError("key \"" + name + "\" appears twice");
      } else if (scan.peek() == '"') {
        found = scan.string();
      } else {
        other_kind = kind_of(scan.peek());
        scan.skip_value();
      }
      scan.skip_space();
    } while (scan.take(','));
    scan.expect('}', "or ',' after a value");
  }
  scan.skip_space();
  if (!scan.ended()) scan.fail("text after the object");
  if (!other_kind.empty())
    throw JsonLineError("\"" + std::string(key) + "\" is " + other_kind + ", expected a string");
  if (!found)
    throw JsonLineError("has no \"" + std::string(key) +
                        "\"; name the key that holds the text with --text-key");
  bool repaired = decode(*found, text);
  if (!valid_utf8(text)) {
    text = replace_invalid_utf8(text);
    repaired = true;
  }
  return repaired;
}

}  // namespace tessera::data
