#include "config/load.h"

#include "config/fields.h"
#include "config/rules.h"
#include "config/sources.h"
#include "core/sha256.h"

namespace tessera {

Config load_config(const std::string& path, const std::vector<std::string>& overrides) {
  settings::Sources sources;
  sources.add_file(path);
  for (const std::string& each : overrides) sources.add_override(each);
  return sources.finish();
}

Config parse_config(const std::string& text, const std::string& name, const std::string& folder,
                    const std::vector<std::string>& overrides) {
  settings::Sources sources;
  sources.add_text(text, name, folder);
  for (const std::string& each : overrides) sources.add_override(each);
  return sources.finish();
}

std::string resolved_config(const Config& config) {
  std::string out, section;
  for (const settings::Field& field : settings::fields()) {
    const std::size_t dot = field.key.find('.');
    if (dot == std::string::npos) {
      section.clear();
      out += field.key + ": " + field.print(config) + "\n";
      continue;
    }
    if (const std::string home = field.key.substr(0, dot); home != section) {
      section = home;
      out += section + ":\n";
    }
    out += "  " + field.key.substr(dot + 1) + ": " + field.print(config) + "\n";
  }
  return out;
}

std::string config_hash(const Config& config) {
  return sha256(resolved_config(config));
}

std::vector<std::string> config_keys() {
  std::vector<std::string> keys;
  for (const settings::Field& field : settings::fields()) keys.push_back(field.key);
  return keys;
}

std::vector<std::string> config_problems(const Config& config) {
  std::vector<std::string> problems;
  for (const settings::RuleProblem& problem : settings::rule_problems(config))
    problems.push_back(problem.keys[0] + ": " + problem.text);
  return problems;
}

std::vector<ConfigDifference> config_differences(const Config& before, const Config& after) {
  std::vector<ConfigDifference> differences;
  for (const settings::Field& field : settings::fields()) {
    std::string old_value = field.print(before), new_value = field.print(after);
    if (old_value != new_value)
      differences.push_back({field.key, std::move(old_value), std::move(new_value)});
  }
  return differences;
}

}  // namespace tessera
