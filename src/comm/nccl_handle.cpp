#include "comm/nccl_handle.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"

namespace tessera::comm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kStart = 0;  // the sequence number of what comes before the operations
// Limits of the end: for a communicator to finish, and for abort() to get in.
constexpr auto kFinish = std::chrono::seconds(10), kAbort = std::chrono::seconds(5);

// What rank 0 tells the others: the id, or why there is none.
struct Invitation {
  ncclUniqueId id;
  char problem[256];
};

Invitation invite() {
  Invitation invitation{};
  const ncclResult_t result = ncclGetUniqueId(&invitation.id);
  if (result != ncclSuccess) {
    const std::string problem =
        fmt::format("NCCL says \"{}\": {}", ncclGetErrorString(result), ncclGetLastError(nullptr));
    std::strncpy(invitation.problem, problem.c_str(), sizeof invitation.problem - 1);
  }
  return invitation;
}

}  // namespace

NcclHandle::NcclHandle(Communicator& group, std::string name, double start_seconds, int most_blocks)
    : name_(std::move(name)), rank_(group.rank()), size_(group.size()) {
  // Multicast in the switch (NVLink SHARP): launch/env.sh says why not. Before NCCL reads it.
  setenv("NCCL_NVLS_ENABLE", "0", 0);
  try {
    start(group, start_seconds, most_blocks);
  } catch (...) {
    abort();
    throw;
  }
}

NcclHandle::~NcclHandle() {
  if (std::uncaught_exceptions() > 0)
    abort();
  else
    finish();
}

void NcclHandle::start(Communicator& group, double seconds, int most_blocks) {
  Invitation invitation{};
  if (rank_ == 0) invitation = invite();
  group.broadcast(&invitation, sizeof invitation);
  if (invitation.problem[0] != '\0')
    throw Error(Category::device,
                fmt::format("group '{}' cannot start: {}", name_, invitation.problem));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  if (most_blocks > 0) config.maxCTAs = most_blocks;
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  {
    const std::lock_guard lock(mutex_);
    check(ncclCommInitRankConfig(&comm_, static_cast<int>(size_), invitation.id,
                                 static_cast<int>(rank_), &config),
          "start", kStart);
  }
  while (!settled("start", kStart)) {
    if (Clock::now() > deadline)
      throw Error(
          Category::device,
          fmt::format(
              "NCCL did not connect the {} ranks of group '{}' within {:g} s (rank {} "
              "waits), although all of them are there; a firewall between the hosts, or "
              "the wrong network: NCCL_SOCKET_IFNAME chooses it, NCCL_DEBUG=INFO shows more",
              size_, name_, seconds, rank_));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void NcclHandle::require_living(const char* operation, std::int64_t sequence) const {
  if (aborted_ || !comm_)
    throw Error(Category::device, fmt::format("{} (number {}) of group '{}', rank {} of {}: the "
                                              "transport was aborted",
                                              operation, sequence, name_, rank_, size_));
}

void NcclHandle::check(ncclResult_t result, const char* operation, std::int64_t sequence) const {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const char* details = ncclGetLastError(comm_);
  throw Error(Category::device,
              fmt::format("{} (number {}) of group '{}', rank {} of {}: NCCL says \"{}\"{}{}",
                          operation, sequence, name_, rank_, size_, ncclGetErrorString(result),
                          details && *details ? ": " : "", details ? details : ""));
}

bool NcclHandle::settled(const char* operation, std::int64_t sequence) {
  const std::lock_guard lock(mutex_);
  require_living(operation, sequence);
  ncclResult_t state = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &state), operation, sequence);
  check(state, operation, sequence);
  return state != ncclInProgress;
}

void NcclHandle::settle(const char* operation, std::int64_t sequence) {
  while (!settled(operation, sequence)) std::this_thread::yield();
}

void NcclHandle::abort() noexcept {
  aborted_ = true;  // a thread that polls stops
  std::unique_lock lock(mutex_, std::defer_lock);
  // A call that NCCL holds all the same (NCCL_COMM_BLOCKING=1) keeps the lock; the watchdog then
  // ends the process.
  if (!lock.try_lock_for(kAbort) || !comm_) return;
  ncclCommAbort(std::exchange(comm_, nullptr));
}

void NcclHandle::finish() noexcept {
  const auto deadline = Clock::now() + kFinish;
  {
    const std::lock_guard lock(mutex_);
    if (!comm_) return;
    ncclResult_t state = ncclCommFinalize(comm_);
    while (state == ncclInProgress && Clock::now() < deadline) {
      if (ncclCommGetAsyncError(comm_, &state) != ncclSuccess) break;
      if (state == ncclInProgress) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    if (state == ncclSuccess) {
      ncclCommDestroy(std::exchange(comm_, nullptr));
      return;
    }
  }
  abort();
}

}  // namespace tessera::comm
