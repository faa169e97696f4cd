// Rules over a whole Config: those of single values (fields.h) and those between values.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace tessera::settings {

// A broken rule: the keys that take part (the first is the one to blame) and what is wrong.
struct RuleProblem {
  std::vector<std::string> keys;
  std::string text;
};

// All broken rules. Rules between values are not tried where one of the values is itself invalid.
std::vector<RuleProblem> rule_problems(const Config& config);

}  // namespace tessera::settings
