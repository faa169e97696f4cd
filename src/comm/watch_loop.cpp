#include "comm/watch_loop.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "core/error.h"
#include "core/exit_record.h"
#include "core/json.h"

namespace tessera::comm {
namespace {

constexpr double kAnswer = 1.0;     // seconds that ranks have to answer a reporter
constexpr double kVerdict = 2.5;    // seconds that reporters have to answer an alarm
constexpr double kRepeat = 0.25;    // between two questions: packets get lost
constexpr double kSilence = 10;     // without a beat, before rank 0 warns
constexpr double kStopped = 5;      // a turn this much late: the process was stopped
constexpr double kStall = 10;       // for logs, files and aborts that hang themselves
constexpr double kSmallerSide = 2;  // a minority's records come this much later
constexpr std::size_t kMostReason = 700, kMostRanks = 32;  // in a packet

void pause(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

std::string to_text(const Verdict& verdict) {
  std::vector<std::int64_t> behind = verdict.behind;
  if (behind.size() > kMostRanks) behind.resize(kMostRanks);
  const Json json = {{"reason", verdict.reason.substr(0, kMostReason)},
                     {"behind", behind},
                     {"answered", verdict.answered}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Verdict to_verdict(const std::string& text) {
  const Json json = parse_json(text, "verdict");
  return {json.at("reason").get<std::string>(), json.at("behind").get<std::vector<std::int64_t>>(),
          json.at("answered").get<std::int64_t>()};
}

}  // namespace

Watchdog::Loop::Loop(Watchdog& owner, std::int64_t rank, const Exchange& exchange)
    : owner_(owner), rank_(rank) {
  try {
    socket_ = std::make_unique<WatchSocket>();
  } catch (const Error& error) {
    spdlog::warn("{}; a hang will be noticed all the same, without saying whose it is",
                 error.what());
  }
  peers_ = std::make_unique<WatchPeers>(
      rank, socket_.get(), exchange(WatchPeers::introduction(socket_.get(), owner.options_.group)));
}

void Watchdog::Loop::end() {
  ending_ = true;
  if (socket_) socket_->wake();
}

WatchPacket Watchdog::Loop::mine(WatchKind kind) const {
  WatchPacket packet;
  packet.kind = kind;
  packet.position = owner_.position();
  packet.steps = owner_.steps_;
  packet.computed = owner_.computed_;
  return packet;
}

void Watchdog::Loop::run() {
  turned_ = watch_seconds();
  while (!ending_ && state_ != State::done) {
    try {
      turn();
    } catch (const std::exception& problem) {
      // A packet that makes no sense, or no memory for a moment: the limits go on.
      spdlog::warn("watchdog: {}", problem.what());
      pause(0.1);
    }
  }
  if (state_ != State::done) peers_->tell_reporters(mine(WatchKind::left));
}

void Watchdog::Loop::forgive(double from, double to) {
  double since = owner_.since_;
  if (since < from) owner_.since_.compare_exchange_strong(since, since + (to - from));
}

void Watchdog::Loop::turn() {
  const double now = watch_seconds();
  const double beat_seconds = owner_.options_.beat_seconds;
  if (now - turned_ > beat_seconds + kStopped) {
    forgive(turned_, now);
    // What has queued up is old, and says nothing but that it is over.
    while (const auto packet = peers_->receive(0, mine(WatchKind::beat)))
      if (packet->kind == WatchKind::verdict) return handle(*packet);
  }
  turned_ = now;
  if (now >= next_beat_) {
    beat(now);
    next_beat_ = now + beat_seconds;
  }
  const Section section = owner_.section_;
  const double expires = owner_.since_ + owner_.limit(section);
  if (state_ == State::watching && now >= expires) expire(section, now);
  if (state_ == State::gathering && now >= deadline_) return conclude(now);
  if (state_ == State::asking && now >= deadline_) {
    Verdict verdict;
    verdict.reason = std::string("no progress in section ") + section_name(expired_) +
                     " for longer than its limit, and no answer from the ranks that know of all:";
    for (const std::int64_t reporter : peers_->reporters())
      verdict.reason += " " + std::to_string(reporter);
    verdict.behind = peers_->reporters();
    verdict.answered = 1;
    return carry_out(verdict, "");
  }
  if (state_ != State::watching && now >= repeat_) {
    repeat_ = now + kRepeat;
    if (state_ == State::gathering)
      peers_->tell_unheard(mine(WatchKind::ping), asked_);
    else
      peers_->tell_reporters(mine(WatchKind::alarm));
  }
  const double next = std::min(next_beat_, state_ == State::watching ? expires : repeat_);
  if (const auto packet = peers_->receive(std::max(0.0, next - now), mine(WatchKind::beat)))
    handle(*packet);
}

void Watchdog::Loop::beat(double now) {
  peers_->note(mine(WatchKind::beat));
  peers_->tell_reporters(mine(WatchKind::beat));
  if (rank_ != 0) return;
  for (const std::string& warning : peers_->take_warnings()) spdlog::warn("{}", warning);
  if (state_ == State::watching)
    for (const std::string& change : peers_->table().changes(kSilence, now))
      spdlog::warn("watchdog: {}", change);
}

void Watchdog::Loop::expire(Section section, double now) {
  spdlog::error("watchdog: this rank is at {} for {:.1f} s, longer than the limit",
                describe(owner_.position()), now - owner_.since_);
  expired_ = section;
  if (peers_->reporter()) {
    peers_->tell_reporters(mine(WatchKind::alarm));
    gather(section, now);
  } else {
    state_ = State::asking;
    repeat_ = now;
    deadline_ = now + kVerdict;
  }
}

void Watchdog::Loop::gather(Section section, double now) {
  state_ = State::gathering;
  expired_ = section;
  asked_ = repeat_ = now;
  deadline_ = size() == 1 ? now : now + kAnswer;
}

void Watchdog::Loop::handle(const WatchPacket& packet) {
  if (packet.kind == WatchKind::alarm && peers_->reporter() && state_ == State::watching)
    gather(packet.position.section, watch_seconds());
  if (packet.kind == WatchKind::verdict && state_ != State::gathering)
    carry_out(to_verdict(std::string(packet.text, packet.length)), "");
}

void Watchdog::Loop::conclude(double now) {
  peers_->note(mine(WatchKind::beat));
  WatchTable& table = peers_->table();
  Verdict verdict = table.judge(asked_, now);
  verdict.reason = std::string("no progress in section ") + section_name(expired_) +
                   " for longer than its limit: " + verdict.reason;
  WatchPacket packet = mine(WatchKind::verdict);
  const std::string text = to_text(verdict);
  packet.length = static_cast<std::uint32_t>(std::min(text.size(), sizeof packet.text));
  std::memcpy(packet.text, text.data(), packet.length);
  for (int i = 0; i < 3; ++i) {
    peers_->tell_all(packet);
    if (size() > 1) pause(0.05);
  }
  const bool speaks = table.lowest_heard(peers_->reporters(), asked_) == rank_;
  carry_out(verdict, speaks ? table.table(asked_, now) : "");
}

void Watchdog::Loop::carry_out(const Verdict& verdict, const std::string& table) {
  state_ = State::done;
  const std::function<void(int)> leave = owner_.options_.leave;
  const double grace = owner_.options_.grace_seconds;
  try {
    // Whatever hangs in what follows (a full pipe, a dead file server, an abort) ends here.
    if (!leave)
      std::thread([grace] {
        pause(grace + kSmallerSide + kStall);
        ::_exit(exit_code(Category::device));
      }).detach();
  } catch (const std::exception&) {
    // No thread to be had: go on without this safety.
  }
  // When the hosts fell apart in two, both sides write; the larger one's word comes first.
  const std::int64_t twice = 2 * verdict.answered;
  const bool without_first = !verdict.behind.empty() && verdict.behind.front() == 0;
  if (twice < size() || (twice == size() && without_first)) pause(kSmallerSide);
  try {
    report(verdict, table);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "tessera (rank %lld): watchdog: %s\n", static_cast<long long>(rank_),
                 problem.what());
  }
  pause(grace);
  if (leave)
    leave(exit_code(Category::device));
  else
    ::_exit(exit_code(Category::device));
}

void Watchdog::Loop::report(const Verdict& verdict, const std::string& table) {
  const Position position = owner_.position();
  const std::lock_guard lock(owner_.mutex_);
  ExitRecord record;
  record.code = exit_code(Category::device);
  record.reason = verdict.reason;
  record.rank = rank_;
  record.step = position.step;
  record.section = section_name(position.section);
  record.behind = verdict.behind;
  write_exit_record(owner_.place_, record);
  const bool alone = verdict.answered == 1 && size() > 1;
  if (!table.empty() || alone) {
    std::fprintf(stderr, "tessera (rank %lld): %s; leaving with %d\n%s",
                 static_cast<long long>(rank_), verdict.reason.c_str(), exit_code(Category::device),
                 table.c_str());
    std::fflush(stderr);
  }
  spdlog::error("watchdog: {}", verdict.reason);
  spdlog::error("watchdog: this rank is at {} since {:.1f} s", describe(position),
                watch_seconds() - owner_.since_);
  if (!table.empty()) spdlog::error("watchdog: all ranks\n{}", table);
  try {
    if (owner_.record_) spdlog::error("watchdog: last operations\n{}", owner_.record_());
  } catch (const std::exception& problem) {
    spdlog::error("watchdog: last operations are unknown: {}", problem.what());
  }
  if (owner_.abort_) owner_.abort_();
}

}  // namespace tessera::comm
