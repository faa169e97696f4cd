#include "config/sources.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "config/fields.h"
#include "config/rules.h"
#include "core/error.h"
#include "core/file_system.h"

namespace tessera::settings {
namespace {

constexpr std::size_t kMaxBases = 8;
constexpr std::size_t kMaxListed = 50;  // problems told one by one

bool is_section(const std::string& key) {
  const auto& all = sections();
  return std::find(all.begin(), all.end(), key) != all.end();
}

std::string canonical(const std::string& path) {
  std::error_code code;
  const std::filesystem::path result = std::filesystem::weakly_canonical(path, code);
  return code ? path : result.string();
}

// What an Error said about `path`, without the path.
std::string reason(const Error& error, const std::string& path) {
  const std::string text = error.what();
  return text.starts_with(path + ": ") ? text.substr(path.size() + 2) : text;
}

}  // namespace

void Sources::report(const std::string& place, const std::string& key, const std::string& text) {
  if (problems_.size() == kMaxListed) {
    ++unlisted_;
    return;
  }
  problems_.push_back(place + ": " + (key.empty() ? "" : key + ": ") + text);
}

std::string Sources::place(const std::string& file, int line) const {
  if (file.empty()) return override_;
  return line > 0 ? file + ":" + std::to_string(line) : file;
}

void Sources::add_file(const std::string& path) {
  read_file(path, "");
}

void Sources::read_file(const std::string& path, const std::string& wanted_by) {
  const std::string by = wanted_by.empty() ? path : wanted_by;
  const std::string what = wanted_by.empty() ? "" : "base";
  const std::string name = wanted_by.empty() ? "" : "'" + shown(path) + "': ";
  const std::string real = canonical(path);
  if (std::find(chain_.begin(), chain_.end(), real) != chain_.end()) {
    incomplete_ = true;
    return report(by, what, name + "circular: this file is already in the chain of bases");
  }
  if (chain_.size() > kMaxBases) {
    incomplete_ = true;
    return report(
        by, what,
        name + "the chain of bases is longer than " + std::to_string(kMaxBases) + " files");
  }
  std::string text;
  try {
    text = FileSystem::posix().read(path, kMaxTextBytes);
  } catch (const Error& error) {
    incomplete_ = true;
    return report(by, what, name + reason(error, path));
  }
  chain_.push_back(real);
  read_text(text, path, parent_directory(path));
  chain_.pop_back();
}

void Sources::add_text(const std::string& text, const std::string& name,
                       const std::string& folder) {
  chain_.push_back(canonical(name));
  read_text(text, name, folder);
  chain_.pop_back();
}

void Sources::read_text(const std::string& text, const std::string& name,
                        const std::string& folder) {
  const YamlDocument document = parse_yaml(text);
  for (const YamlProblem& problem : document.problems) {
    report(place(name, problem.line), shown(problem.key), problem.text);
    doubtful_.insert(problem.key);
  }
  const YamlNode& root = document.root;
  if (root.kind == YamlNode::Kind::map) {
    add_base(root, name, folder);
    seen_.clear();
    add_section(root, "", name);
    return;
  }
  incomplete_ = true;
  if (root.kind != YamlNode::Kind::nothing)
    report(place(name, root.line), "",
           "found " + described(root) + ", expected sections such as 'model:' with keys below");
  else if (document.problems.empty())
    report(name, "", "holds no settings; expected sections such as 'model:' with keys below");
}

void Sources::add_base(const YamlNode& root, const std::string& name, const std::string& folder) {
  for (const YamlNode& child : root.children) {
    if (child.key != "base") continue;
    if (child.kind != YamlNode::Kind::scalar || child.text.empty()) {
      incomplete_ = true;
      report(place(name, child.line), "base",
             "found " + described(child) + ", expected the path of one file");
      continue;
    }
    const std::filesystem::path path = std::filesystem::path(folder) / child.text;
    read_file(path.lexically_normal().string(), place(name, child.line));
  }
}

void Sources::add_override(const std::string& assignment) {
  override_ = "override " + shown(assignment);
  seen_.clear();
  const std::size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    incomplete_ = true;
    return report(override_, "", "expected key=value, such as train.steps=100");
  }
  const std::string key = assignment.substr(0, equals);
  YamlDocument document = parse_yaml(assignment.substr(equals + 1));
  for (const YamlProblem& problem : document.problems)
    report(override_, shown(key + (problem.key.empty() ? "" : "." + problem.key)), problem.text);
  doubtful_.insert(key);
  if (!document.problems.empty()) {
    incomplete_ = true;
    return;
  }
  doubtful_.erase(key);
  if (key == "base")
    return report(override_, "", "base belongs into a file; name that file as the configuration");
  add_entry(document.root, key, "");
}

void Sources::add_section(const YamlNode& section, const std::string& prefix,
                          const std::string& file) {
  for (const YamlNode& child : section.children)
    if (!prefix.empty() || child.key != "base") add_entry(child, prefix + child.key, file);
}

void Sources::add_entry(const YamlNode& node, const std::string& key, const std::string& file) {
  const std::string where = place(file, node.line);
  if (const Field* field = find_field(key)) {
    if (!seen_.insert(key).second)
      return report(where, key, "given twice, as a dotted key and in its section; keep one");
    const ValueProblems problems = field->read(node, config_);
    for (const ValueProblem& problem : problems)
      report(place(file, problem.line), key + problem.part, problem.text);
    if (problems.empty()) {
      places_[key] = where;
      doubtful_.erase(key);
    } else {
      doubtful_.insert(key);
    }
  } else if (!is_section(key)) {
    report_unknown(node, key, file);
  } else if (node.kind == YamlNode::Kind::map) {
    add_section(node, key + ".", file);
  } else if (node.kind != YamlNode::Kind::nothing || file.empty()) {
    doubtful_.insert(key);
    report(where, key, "found " + described(node) + ", expected a section of keys");
  }
}

void Sources::report_unknown(const YamlNode& node, const std::string& key,
                             const std::string& file) {
  const bool section = node.kind == YamlNode::Kind::map && !node.children.empty();
  if (section && key.size() <= 80 && problems_.size() < kMaxListed) {
    // Its keys say more: `modle: {widht: 3}` meant model.width.
    for (const YamlNode& child : node.children) report_unknown(child, key + "." + child.key, file);
    return;
  }
  std::string guess;
  if (problems_.size() < kMaxListed) {
    guess = nearest_key(key, false);
    if (guess.empty()) guess = nearest_key(key, true);
  }
  doubtful_.insert(guess);
  report(place(file, node.line), shown(key),
         guess.empty() ? "unknown key; docs/configuration.md lists all of them"
                       : "unknown key; did you mean " + guess + "?");
}

void Sources::report_rules() {
  const auto doubtful = [&](const std::string& key) {
    return doubtful_.contains(key) || doubtful_.contains(key.substr(0, key.find('.')));
  };
  for (const RuleProblem& problem : rule_problems(config_)) {
    if (std::any_of(problem.keys.begin(), problem.keys.end(), doubtful)) continue;
    // The place of the first key that was set; where the others come from goes behind.
    std::string first, others;
    for (const std::string& key : problem.keys) {
      const auto at = places_.find(key);
      if (at == places_.end())
        others += (others.empty() ? "" : ", ") + key + " is the default";
      else if (first.empty())
        first = at->second;
      else if (at->second != first)
        others += (others.empty() ? "" : ", ") + key + " is from " + at->second;
    }
    report(first.empty() ? "defaults" : first, problem.keys[0],
           problem.text + (others.empty() ? "" : " [" + others + "]"));
  }
}

Config Sources::finish() {
  if (!incomplete_) report_rules();
  if (problems_.empty()) return config_;
  if (problems_.size() == 1) throw Error(Category::config, problems_[0]);
  std::string text =
      std::to_string(problems_.size() + unlisted_) + " problems in the configuration:";
  for (const std::string& problem : problems_) text += "\n  " + problem;
  if (unlisted_ > 0) text += "\n  and " + std::to_string(unlisted_) + " more";
  throw Error(Category::config, text);
}

}  // namespace tessera::settings
