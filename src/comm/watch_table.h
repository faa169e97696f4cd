// What one rank knows of all ranks, and what it concludes from it when the job hangs (pure: times
// are given, in seconds on one clock).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/position.h"

namespace tessera::comm {

// Who holds the job up, as far as one rank can tell.
struct Verdict {
  std::string reason;                // one sentence
  std::vector<std::int64_t> behind;  // ranks silent or behind, lowest first; empty: cannot tell
  std::int64_t answered = 0;         // ranks that were heard
};

class WatchTable {
 public:
  // One name a rank.
  explicit WatchTable(std::vector<std::string> hosts);

  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
  void heard(std::int64_t rank, const Position& position, double now);
  // The rank said that it leaves by itself.
  void left(std::int64_t rank, double now);
  bool heard_since(std::int64_t rank, double when) const;
  // The lowest of `candidates` heard since `when`; -1 when none was.
  std::int64_t lowest_heard(const std::vector<std::int64_t>& candidates, double when) const;

  // Ranks not heard since `asked` are silent; of the others the least advanced are behind. Silent
  // ranks are named before ranks that are behind: those may be waiting for them.
  Verdict judge(double asked, double now) const;
  // A line a rank: rank, host, where it is, when it was heard. Of more than 64 ranks those with
  // something to say: silent, gone or behind, at most 64.
  std::string table(double asked, double now) const;
  // Ranks that were not heard for more than `limit` seconds since the last call, and ranks heard
  // again: a sentence each. For warnings while training goes on.
  std::vector<std::string> changes(double limit, double now);

 private:
  struct Row {
    std::string host;
    Position position;
    double heard = -1;  // when; below 0: never
    bool gone = false, warned = false;
  };
  std::string name(std::int64_t rank) const;
  std::string last_known(std::int64_t rank, double now) const;
  // The least advanced of the ranks heard since `asked`, unless all are level.
  std::vector<std::int64_t> laggards(double asked) const;
  std::vector<Row> rows_;
  double watched_since_ = -1;  // the first call of changes()
};

}  // namespace tessera::comm
