#include "core/log.h"

#include <memory>
#include <vector>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace tessera {

void setup_quiet_log() {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  sink->set_pattern("tessera: %l: %v");
  auto logger = std::make_shared<spdlog::logger>("tessera", sink);
  logger->set_level(spdlog::level::warn);
  spdlog::set_default_logger(logger);
}

void setup_log(int rank, const std::string& file) {
  std::vector<spdlog::sink_ptr> sinks;
  if (rank == 0) {
    auto console = std::make_shared<spdlog::sinks::stdout_sink_mt>();
    console->set_pattern("%v");
    sinks.push_back(console);
  }
  if (!file.empty()) {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file, false);
    sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    sinks.push_back(sink);
  }
  auto logger = std::make_shared<spdlog::logger>("tessera", sinks.begin(), sinks.end());
  logger->flush_on(spdlog::level::info);
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(logger);
}

}  // namespace tessera
