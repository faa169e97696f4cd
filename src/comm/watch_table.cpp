#include "comm/watch_table.h"

#include <algorithm>
#include <cstdio>

#include "core/text.h"

namespace tessera::comm {
namespace {

constexpr std::size_t kMostNamed = 4;
constexpr std::size_t kMostLines = 64;

std::string seconds(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", std::max(0.0, value));
  return text;
}

}  // namespace

WatchTable::WatchTable(std::vector<std::string> hosts) {
  for (std::string& host : hosts) rows_.push_back({std::move(host), {}, -1, false, false});
}

void WatchTable::heard(std::int64_t rank, const Position& position, double now) {
  Row& row = rows_.at(static_cast<std::size_t>(rank));
  row.position = position;
  row.heard = now;
}

void WatchTable::left(std::int64_t rank, double now) {
  Row& row = rows_.at(static_cast<std::size_t>(rank));
  row.gone = true;
  row.heard = now;
}

bool WatchTable::heard_since(std::int64_t rank, double when) const {
  const Row& row = rows_.at(static_cast<std::size_t>(rank));
  return !row.gone && row.heard >= when;
}

std::int64_t WatchTable::lowest_heard(const std::vector<std::int64_t>& candidates,
                                      double when) const {
  std::int64_t lowest = -1;
  for (const std::int64_t rank : candidates)
    if (heard_since(rank, when) && (lowest < 0 || rank < lowest)) lowest = rank;
  return lowest;
}

std::string WatchTable::name(std::int64_t rank) const {
  return "rank " + std::to_string(rank) + " (" + rows_[static_cast<std::size_t>(rank)].host + ")";
}

std::string WatchTable::last_known(std::int64_t rank, double now) const {
  const Row& row = rows_[static_cast<std::size_t>(rank)];
  if (row.gone) return name(rank) + " has left, from " + describe(row.position);
  if (row.heard < 0) return name(rank) + " was never heard";
  return name(rank) + " has been silent for " + seconds(now - row.heard) + ", last at " +
         describe(row.position);
}

std::vector<std::int64_t> WatchTable::laggards(double asked) const {
  const Position *least = nullptr, *most = nullptr;
  for (std::int64_t rank = 0; rank < size(); ++rank) {
    if (!heard_since(rank, asked)) continue;
    const Position& position = rows_[static_cast<std::size_t>(rank)].position;
    if (!least || before(position, *least)) least = &position;
    if (!most || before(*most, position)) most = &position;
  }
  std::vector<std::int64_t> ranks;
  if (!least || !before(*least, *most)) return ranks;
  for (std::int64_t rank = 0; rank < size(); ++rank)
    if (heard_since(rank, asked) && !before(*least, rows_[static_cast<std::size_t>(rank)].position))
      ranks.push_back(rank);
  return ranks;
}

Verdict WatchTable::judge(double asked, double now) const {
  Verdict verdict;
  const Position* most = nullptr;
  for (std::int64_t rank = 0; rank < size(); ++rank) {
    if (!heard_since(rank, asked)) {
      verdict.behind.push_back(rank);
      continue;
    }
    ++verdict.answered;
    const Position& position = rows_[static_cast<std::size_t>(rank)].position;
    if (!most || before(*most, position)) most = &position;
  }
  const bool silent = !verdict.behind.empty();
  if (!silent) verdict.behind = laggards(asked);
  if (verdict.behind.empty()) {
    verdict.reason = size() == 1 ? "this rank is at " + describe(*most)
                                 : "no rank is behind another: all are at " + describe(*most);
    return verdict;
  }
  const std::size_t named = std::min(verdict.behind.size(), kMostNamed);
  for (std::size_t i = 0; i < named; ++i) {
    const std::int64_t rank = verdict.behind[i];
    if (i > 0) verdict.reason += "; ";
    verdict.reason += silent ? last_known(rank, now)
                             : name(rank) + " is behind at " +
                                   describe(rows_[static_cast<std::size_t>(rank)].position);
  }
  if (verdict.behind.size() > named)
    verdict.reason += "; and " + std::to_string(verdict.behind.size() - named) + " more";
  if (most) verdict.reason += "; the furthest rank is at " + describe(*most);
  return verdict;
}

std::string WatchTable::table(double asked, double now) const {
  std::vector<std::vector<std::string>> lines = {{"rank", "host", "is", "heard", "at"}};
  const std::vector<std::int64_t> behind = laggards(asked);
  for (std::int64_t rank = 0; rank < size() && lines.size() <= kMostLines; ++rank) {
    const Row& row = rows_[static_cast<std::size_t>(rank)];
    const bool lags = std::binary_search(behind.begin(), behind.end(), rank);
    const bool silent = !heard_since(rank, asked);
    if (size() > static_cast<std::int64_t>(kMostLines) && !lags && !silent) continue;
    lines.push_back({std::to_string(rank), row.host,
                     row.gone ? "gone" : (silent ? "silent" : (lags ? "behind" : "waiting")),
                     row.heard < 0 ? "never" : seconds(now - row.heard) + " ago",
                     row.heard < 0 ? "" : describe(row.position)});
  }
  return format_table(lines);
}

std::vector<std::string> WatchTable::changes(double limit, double now) {
  std::vector<std::string> sentences;
  if (watched_since_ < 0) watched_since_ = now;
  for (std::int64_t rank = 0; rank < size(); ++rank) {
    Row& row = rows_[static_cast<std::size_t>(rank)];
    if (row.gone) continue;
    const bool silent = now - (row.heard < 0 ? watched_since_ : row.heard) > limit;
    if (silent == row.warned) continue;
    row.warned = silent;
    sentences.push_back(silent ? last_known(rank, now) : name(rank) + " is heard again");
  }
  return sentences;
}

}  // namespace tessera::comm
