// Shared by the tests of the configuration: what a text loads to, or what is said about it.
#pragma once

#include <string>
#include <vector>

#include "config/load.h"
#include "core/error.h"

namespace tessera {

inline Config from_text(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_config(text, "test.yaml", ".", overrides);
}

// The message `text` is refused with; "" when it is not.
inline std::string refusal(const std::string& text,
                           const std::vector<std::string>& overrides = {}) {
  try {
    from_text(text, overrides);
  } catch (const Error& error) {
    return (error.category() == Category::config ? "" : "wrong category: ") +
           std::string(error.what());
  }
  return "";
}

}  // namespace tessera
