#include "core/progress.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <sys/ioctl.h>
#include <unistd.h>

namespace tessera {

namespace {

bool terminal() {
  const char* wish = std::getenv("TESSERA_PROGRESS");
  if (wish != nullptr && (std::strcmp(wish, "0") == 0 || std::strcmp(wish, "1") == 0))
    return wish[0] == '1';
  return ::isatty(STDERR_FILENO) == 1;
}

}  // namespace

ProgressLine::ProgressLine(bool enabled) : active_(enabled && terminal()) {}

ProgressLine::~ProgressLine() {
  clear();
}

void ProgressLine::show(const std::string& text) {
  if (!active_) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  winsize size{};
  const std::size_t columns =
      ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 100u;
  std::fprintf(stderr, "\r\033[K%s", text.substr(0, columns).c_str());
  std::fflush(stderr);
}

void ProgressLine::clear() {
  if (!active_ || !drawn_) return;
  std::fprintf(stderr, "\r\033[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace tessera
