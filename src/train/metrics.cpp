#include "train/metrics.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include <spdlog/spdlog.h>

#include "core/error.h"
#include "core/file_system.h"

namespace tessera::train {
namespace {

// The lines of an earlier run that stay: whole ones, of steps up to `last_step`.
std::string kept_lines(const std::string& path, std::int64_t last_step) {
  std::ifstream in(path);
  std::string text, line;
  while (std::getline(in, line)) {
    if (in.eof()) break;  // no newline behind it: torn by a crash
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.is_object()) continue;
    if (json.value("step", std::int64_t{0}) > last_step) continue;
    text += line + "\n";
  }
  return text;
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path, std::int64_t last_step) {
  FileSystem& files = FileSystem::posix();
  if (files.exists(path)) write_atomically(files, path, kept_lines(path, last_step));
  file_.reset(std::fopen(path.c_str(), "ae"));
  if (!file_) throw Error(Category::io, path + ": cannot be opened: " + std::strerror(errno));
}

void MetricsFile::write(const std::string& kind, OrderedJson fields) {
  OrderedJson line = {{"kind", kind}};
  line.update(fields);
  const std::string text = line.dump() + "\n";
  // A full disk must not end training: the line is lost and said so.
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() ||
      std::fflush(file_.get()) != 0) {
    std::clearerr(file_.get());
    spdlog::warn("metrics.jsonl: a line could not be written: {}", std::strerror(errno));
  }
}

void MetricsFile::step(const StepMetrics& m) {
  OrderedJson fields = {{"step", m.step},
                        {"tokens", m.tokens},
                        {"loss", m.loss},
                        {"bits_per_byte", m.bits_per_byte},
                        {"learning_rate", m.learning_rate},
                        {"grad_norm", m.grad_norm},
                        {"step_ms", m.step_ms},
                        {"tokens_per_second", m.tokens_per_second},
                        {"mfu", m.mfu ? OrderedJson(*m.mfu) : OrderedJson(nullptr)},
                        {"data_wait_ms", m.data_wait_ms}};
  if (m.skipped) fields["skipped"] = true;
  if (m.lost_targets > 0) fields["lost_targets"] = m.lost_targets;
  write("step", std::move(fields));
}

}  // namespace tessera::train
