// Logging goes through spdlog's default logger: `spdlog::info("...")` anywhere in host code. Before
// `setup_log` it writes warnings and worse to standard error.
#pragma once

#include <string>

namespace tessera {

// Rank 0 logs information to standard output (bare lines) and every rank logs everything to `file`
// ("" for none). A log that can no longer be written is dropped silently; training goes on.
void setup_log(int rank, const std::string& file);

}  // namespace tessera
