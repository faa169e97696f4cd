// YAML files and key=value overrides into a checked Config, and back.
//
// The way through: file -> `base:` chain -> overrides -> one key/value table with the place each
// value came from -> structs -> rules. All problems are found before any is reported.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace tessera {

// Loads `path` (with `base: other.yaml`, relative to the file that names it; the nearer file wins)
// and applies overrides such as "train.steps=100", "data.train=[{path: a, weight: 2}]" (values are
// YAML; of two for one key the later wins). `a.b: 1` in a file means `a: {b: 1}`. Error{config}
// listing every problem, one line each: place (file:line or the override), key, what was found and
// expected, and the nearest valid key. Refused: unknown and repeated keys, wrong types, impossible
// values or combinations, anchors and aliases, files over 1 MiB, nesting deeper than 32, base
// chains longer than 8 or circular.
Config load_config(const std::string& path, const std::vector<std::string>& overrides = {});

// The same from text; `name` stands for the file in messages. Relative `base:` starts at `folder`.
Config parse_config(const std::string& text, const std::string& name, const std::string& folder,
                    const std::vector<std::string>& overrides = {});

// Every key with its value, as YAML in the order of config.h; parse_config(resolved(c)) equals c,
// doubles to the last bit.
std::string resolved_config(const Config& config);

// SHA-256 of the resolved text.
std::string config_hash(const Config& config);

// Every valid key ("model.width", ...), in order.
std::vector<std::string> config_keys();

// Rules that need no file: all problems of one config (empty when it is sound). `load_config` calls
// it.
std::vector<std::string> config_problems(const Config& config);

// Keys whose values differ, with both values: "optimizer.lr: 0.001 -> 0.002".
struct ConfigDifference {
  std::string key, before, after;
};
std::vector<ConfigDifference> config_differences(const Config& before, const Config& after);

}  // namespace tessera
