#include "train/signals.h"

#include <array>

#include <unistd.h>

namespace tessera::train {
namespace {

constexpr std::array<int, 3> kSignals = {SIGUSR1, SIGTERM, SIGINT};
std::atomic<int> g_requests = 0;
static_assert(std::atomic<int>::is_always_lock_free, "needed in a signal handler");
std::array<struct sigaction, kSignals.size()> g_previous;

void on_signal(int signal) {
  if (g_requests.fetch_add(1) > 0 && signal != SIGUSR1) ::_exit(75);
}

}  // namespace

StopSignals::StopSignals() {
  g_requests = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigset_t mask;
  sigemptyset(&mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], &action, &g_previous[i]);
    sigaddset(&mask, kSignals[i]);
  }
  // Errors of the call are what counts: a closed pipe, a file beyond the size limit (ulimit -f).
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  // Started with the signals open; they close for this thread and its later children only then.
  receiver_ = std::thread([this, mask] {
    ::pthread_sigmask(SIG_UNBLOCK, &mask, nullptr);
    ending_.wait(false);
  });
  ::pthread_sigmask(SIG_BLOCK, &mask, &previous_mask_);
}

StopSignals::~StopSignals() {
  ending_ = true;
  ending_.notify_all();
  receiver_.join();
  for (std::size_t i = 0; i < kSignals.size(); ++i)
    ::sigaction(kSignals[i], &g_previous[i], nullptr);
  ::pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);
}

bool StopSignals::requested() const {
  return g_requests > 0;
}

}  // namespace tessera::train
