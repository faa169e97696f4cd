// A line that is redrawn in place on a terminal, and nothing at all in a pipe or file.
#pragma once

#include <chrono>
#include <string>

namespace tessera {

class ProgressLine {
 public:
  // Draws on standard error when `enabled` and it is a terminal, or TESSERA_PROGRESS=1 says that a
  // terminal is at the other end (mpirun hands programs a pipe); TESSERA_PROGRESS=0 never draws.
  explicit ProgressLine(bool enabled = true);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  bool active() const { return active_; }
  // Replaces the line by `text`, at most ten times a second.
  void show(const std::string& text);
  // Wipes the line, so that ordinary output can be printed.
  void clear();

 private:
  bool active_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace tessera
