// Where settings come from: a chain of files and the command line, merged into one Config that
// remembers the place of every value, so that all problems can be told together with their places.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/yaml_tree.h"

namespace tessera::settings {

class Sources {
 public:
  // Each adds on top of what was added before; problems are kept for `finish`.
  void add_file(const std::string& path);
  void add_text(const std::string& text, const std::string& name, const std::string& folder);
  void add_override(const std::string& assignment);

  // The merged values, checked; Error{config} with every problem.
  Config finish();

 private:
  // Reads and adds `path`, wanted by `place` ("" when a person named it).
  void read_file(const std::string& path, const std::string& place);
  void read_text(const std::string& text, const std::string& name, const std::string& folder);
  void add_base(const YamlNode& root, const std::string& name, const std::string& folder);
  // Adds what `root`'s children hold; `prefix` is "" or "model.". `file` is "" for an override,
  // whose place is `override_`.
  void add_section(const YamlNode& section, const std::string& prefix, const std::string& file);
  void add_entry(const YamlNode& node, const std::string& key, const std::string& file);
  void report_unknown(const YamlNode& node, const std::string& key, const std::string& file);
  std::string place(const std::string& file, int line) const;
  void report(const std::string& place, const std::string& key, const std::string& text);
  void report_rules();

  Config config_;
  std::vector<std::string> problems_;
  std::size_t unlisted_ = 0;                   // problems past the number that is told
  std::map<std::string, std::string> places_;  // key -> place of the value that counts
  std::set<std::string> doubtful_;             // keys and sections meant, but not read
  bool incomplete_ = false;                    // a file or an override could not be read at all
  std::vector<std::string> chain_;             // canonical paths of the files being read
  std::set<std::string> seen_;                 // keys given so far by the file being read
  std::string override_;
};

}  // namespace tessera::settings
