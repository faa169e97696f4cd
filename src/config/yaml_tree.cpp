#include "config/yaml_tree.h"

#include <sstream>
#include <unordered_map>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

namespace tessera::settings {
namespace {

// Thrown through yaml-cpp to stop it.
struct Refused {
  YamlProblem problem;
};

int line_of(const YAML::Mark& mark) {
  return mark.is_null() ? 0 : mark.line + 1;
}

class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(YamlDocument& document) : document_(document) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0)
      throw Refused{{line_of(mark), "", "a second YAML document begins here; keep one a file"}};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check(mark, "", anchor);
    deliver(node(YamlNode::Kind::nothing, mark));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    report(mark, "aliases (*name) are not supported; write the value out");
    if (frames_.empty() || frames_.back().node.kind == YamlNode::Kind::list) return;
    frames_.back().keep = frames_.back().keep && !frames_.back().has_key;
    deliver(node(YamlNode::Kind::nothing, mark));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check(mark, tag, anchor);
    YamlNode scalar = node(YamlNode::Kind::scalar, mark);
    scalar.text = value;
    scalar.quoted = tag == "!";
    deliver(std::move(scalar));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::list, mark, tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::map, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  // A list or map being read.
  struct Frame {
    YamlNode node;
    bool has_key = false;  // map: a key was read, its value was not
    bool keep = true;      // map: the pending value is wanted (its key is sound and new)
    std::string key;
    int key_line = 0;
    std::unordered_map<std::string, int> lines;  // map: keys so far
  };

  static YamlNode node(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode result;
    result.kind = kind;
    result.line = line_of(mark);
    return result;
  }

  // Full key of what is being read.
  std::string path() const {
    std::string result;
    for (const Frame& frame : frames_) {
      if (frame.node.kind == YamlNode::Kind::list)
        result += "[" + std::to_string(frame.node.children.size()) + "]";
      else if (frame.has_key)
        result += (result.empty() ? "" : ".") + frame.key;
    }
    return result;
  }

  void report(const YAML::Mark& mark, const std::string& text) {
    document_.problems.push_back({line_of(mark), path(), text});
  }

  void check(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor)
      report(mark, "anchors (&name) are not supported; write the value out where it is used");
    if (!tag.empty() && tag != "?" && tag != "!")
      report(mark, "found the tag " + shown(tag) + "; tags are not supported, remove it");
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    check(mark, tag, anchor);
    if (frames_.size() == kMaxDepth)
      throw Refused{
          {line_of(mark), "", "nested deeper than " + std::to_string(kMaxDepth) + " levels"}};
    frames_.emplace_back();
    frames_.back().node = node(kind, mark);
  }

  void close() {
    YamlNode done = std::move(frames_.back().node);
    frames_.pop_back();
    deliver(std::move(done));
  }

  void deliver(YamlNode value) {
    if (frames_.empty()) {
      document_.root = std::move(value);
      return;
    }
    Frame& frame = frames_.back();
    if (frame.node.kind == YamlNode::Kind::list) {
      frame.node.children.push_back(std::move(value));
    } else if (!frame.has_key) {
      take_key(frame, std::move(value));
    } else {
      frame.has_key = false;
      if (!frame.keep) return;
      // An empty value's own mark is that of the next token.
      if (value.kind == YamlNode::Kind::nothing) value.line = frame.key_line;
      value.key = std::move(frame.key);
      frame.node.children.push_back(std::move(value));
    }
  }

  void take_key(Frame& frame, YamlNode key) {
    frame.key = key.text;
    frame.key_line = key.line;
    frame.has_key = true;
    frame.keep = key.kind == YamlNode::Kind::scalar;
    if (!frame.keep) {
      document_.problems.push_back({key.line, "", "a key must be a plain word"});
      return;
    }
    const auto [at, fresh] = frame.lines.emplace(frame.key, key.line);
    if (fresh) return;
    frame.keep = false;
    document_.problems.push_back(
        {key.line, path(),
         "repeated key, first given on line " + std::to_string(at->second) + "; keep one of them"});
  }

  YamlDocument& document_;
  std::vector<Frame> frames_;
  int documents_ = 0;
};

// The first reason why the bytes are nothing for a YAML parser, or "".
std::string text_problem(const std::string& text) {
  if (static_cast<std::int64_t>(text.size()) > kMaxTextBytes)
    return "larger than the " + std::to_string(kMaxTextBytes) + " bytes a configuration may have";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f)
      return "not text: control byte " + std::to_string(byte) + " at offset " + std::to_string(i);
  }
  return is_utf8(text) ? "" : "not text: its bytes are not UTF-8";
}

}  // namespace

YamlDocument parse_yaml(const std::string& text) {
  YamlDocument document;
  const auto give_up = [&](YamlProblem problem) {
    document.root = YamlNode{};
    document.problems.push_back(std::move(problem));
  };
  if (const std::string problem = text_problem(text); !problem.empty()) {
    give_up({0, "", problem});
    return document;
  }
  std::istringstream in(text);
  TreeBuilder builder(document);
  try {
    YAML::Parser parser(in);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refused& refused) {
    give_up(refused.problem);
  } catch (const YAML::Exception& error) {
    give_up({line_of(error.mark), "", "not valid YAML: " + shown(error.msg)});
  }
  return document;
}

std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 60;
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    // Not inside a UTF-8 character, unless the bytes are no UTF-8 at all.
    if (out.size() >= kMost && ((byte & 0xC0) != 0x80 || out.size() >= kMost + 3))
      return out + "...";
    out += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return out;
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xC2 && lead < 0xE0 ? 2
                               : lead >= 0xE0 && lead < 0xF0 ? 3
                               : lead >= 0xF0 && lead < 0xF5 ? 4
                                                             : 0;
    if (length == 0 || text.size() - i < length) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    const auto second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
      return false;
    i += length;
  }
  return true;
}

}  // namespace tessera::settings
