// The other watchdogs of a job as one rank reaches them: who the reporters are, by which address
// each rank is reached, and what has been heard from whom.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/stragglers.h"
#include "comm/watch_socket.h"
#include "comm/watch_table.h"

namespace tessera::comm {

// Seconds of the system's steady clock, which all of a watchdog's times are on.
double watch_seconds();

class WatchPeers {
 public:
  // What a rank tells all others at the start, as text (`group` as in Stragglers), and all ranks'
  // texts made into peers. `socket` may be null: then nobody is reached.
  static std::string introduction(const WatchSocket* socket, std::int64_t group);
  WatchPeers(std::int64_t rank, WatchSocket* socket, const std::vector<std::string>& introductions);

  bool reporter() const { return reporter_; }
  const std::vector<std::int64_t>& reporters() const { return reporters_; }
  const std::string& host() const { return hosts_[static_cast<std::size_t>(rank_)]; }
  WatchTable& table() { return table_; }

  // Sends this rank's position to the reporters, or another kind of word.
  void tell_reporters(const WatchPacket& packet);
  // Sends to every other rank.
  void tell_all(const WatchPacket& packet);
  // Sends to every other rank that was not heard since `when`.
  void tell_unheard(const WatchPacket& packet, double when);

  // Waits up to `seconds` for a packet of this job and takes in what it says; answers what wants an
  // answer with `mine`, this rank's own position. nullopt when none came.
  std::optional<WatchPacket> receive(double seconds, const WatchPacket& mine);
  // Warnings of slow ranks since the last call (rank 0 alone has any).
  std::vector<std::string> take_warnings();
  // This rank's own position, which does not travel.
  void note(const WatchPacket& mine) { note(rank_, mine); }

 private:
  struct Way {
    std::vector<sockaddr_in> candidates;
    std::optional<sockaddr_in> known;  // the address that has answered
  };
  void send(std::int64_t to, WatchPacket packet);
  void note(std::int64_t rank, const WatchPacket& packet);

  const std::int64_t rank_;
  WatchSocket* const socket_;
  std::vector<std::string> hosts_;
  WatchTable table_;
  std::vector<std::int64_t> groups_;
  std::vector<std::int64_t> reporters_;
  bool reporter_ = false;
  std::uint64_t token_ = 0;
  std::vector<Way> ways_;  // one a rank
  std::optional<Stragglers> stragglers_;
  std::vector<std::string> warnings_;
};

}  // namespace tessera::comm
