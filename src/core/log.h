// Logging goes through spdlog's default logger: `spdlog::info("...")` anywhere in host code.
#pragma once

#include <string>

namespace tessera {

// Warnings and worse to standard error, nothing else anywhere: what every command starts with, so
// that standard output holds results alone.
void setup_quiet_log();

// For a training run, in its place: rank 0 logs information to standard output (bare lines) and
// every rank logs everything to `file`
// ("" for none). A log that can no longer be written is dropped silently; training goes on.
void setup_log(int rank, const std::string& file);

}  // namespace tessera
