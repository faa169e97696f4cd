#include "train/signals.h"

#include <array>

#include <signal.h>
#include <unistd.h>

namespace tessera::train {
namespace {

constexpr std::array<int, 3> kSignals = {SIGUSR1, SIGTERM, SIGINT};
volatile sig_atomic_t g_requests = 0;
std::array<struct sigaction, kSignals.size()> g_previous;

void on_signal(int signal) {
  if (signal != SIGUSR1 && g_requests > 0) ::_exit(75);
  g_requests = g_requests + 1;
}

}  // namespace

StopSignals::StopSignals() {
  g_requests = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < kSignals.size(); ++i)
    ::sigaction(kSignals[i], &action, &g_previous[i]);
  ::signal(SIGPIPE, SIG_IGN);
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < kSignals.size(); ++i)
    ::sigaction(kSignals[i], &g_previous[i], nullptr);
}

bool StopSignals::requested() const {
  return g_requests > 0;
}

}  // namespace tessera::train
