// A configuration file of a stranger; what is accepted survives being written and read again.
#include "config/load.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tessera;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const Config config = parse_config(text, "config.yaml", "/nonexistent");
    const std::string resolved = resolved_config(config);
    TESSERA_CHECK(resolved_config(parse_config(resolved, "resolved", "/nonexistent")) == resolved);
  } catch (const Error& error) {
    // All problems of a configuration are told together, a line each.
    if (error.category() != Category::config && error.category() != Category::io) std::abort();
  }
  return 0;
}
