// RUN/metrics.jsonl: one JSON object a line with `kind`: step | eval | checkpoint. Fields are
// defined in docs/numbers.md. Doubles are written so that they read back to the same bits; a
// non-finite value becomes null.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "core/json.h"

namespace tessera::train {

struct StepMetrics {
  std::int64_t step = 0;
  std::int64_t tokens = 0;  // read so far
  double loss = 0;          // nats a target, global batch
  double bits_per_byte = 0;
  double learning_rate = 0;
  double grad_norm = 0;
  double step_ms = 0;
  double tokens_per_second = 0;
  std::optional<double> mfu;
  double data_wait_ms = 0;
  bool skipped = false;
  std::int64_t lost_targets = 0;  // of bad chunks
};

class MetricsFile {
 public:
  // Opens for appending; first removes a torn last line and every line of a step beyond `last_step`
  // (what a resumed run will write again).
  MetricsFile(const std::string& path, std::int64_t last_step);

  void step(const StepMetrics& metrics);
  // {"kind": kind, ...fields}
  void write(const std::string& kind, OrderedJson fields);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace tessera::train
