// The watchdog's thread: beats, limits, verdict, end (comm/watchdog.h says what for).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/watch_peers.h"
#include "comm/watchdog.h"

namespace tessera::comm {

class Watchdog::Loop {
 public:
  // Collective over the ranks of `exchange`.
  Loop(Watchdog& owner, std::int64_t rank, const Exchange& exchange);

  std::int64_t size() const { return peers_->table().size(); }
  // On the thread, until end() or the end of the process.
  void run();
  // From any thread: says goodbye to the others and lets run() return.
  void end();

 private:
  // What the thread is busy with.
  enum class State {
    watching,
    gathering,  // a reporter: has asked all ranks where they are
    asking,     // another rank: has alarmed the reporters
    done        // the verdict is carried out
  };
  void turn();
  void beat(double now);
  void expire(Section section, double now);
  void gather(Section section, double now);
  void handle(const WatchPacket& packet);
  // A reporter's: from what the ranks have answered.
  void conclude(double now);
  void carry_out(const Verdict& verdict, const std::string& table);
  void report(const Verdict& verdict, const std::string& table);
  WatchPacket mine(WatchKind kind) const;
  // The process itself was stopped for a while: that is no hang.
  void forgive(double from, double to);

  Watchdog& owner_;
  const std::int64_t rank_;
  std::unique_ptr<WatchSocket> socket_;
  std::unique_ptr<WatchPeers> peers_;
  std::atomic<bool> ending_ = false;

  State state_ = State::watching;
  double next_beat_ = 0, turned_ = 0;
  double asked_ = 0, repeat_ = 0, deadline_ = 0;  // gathering and asking
  Section expired_ = Section::start;              // whose limit has passed, on some rank
};

}  // namespace tessera::comm
