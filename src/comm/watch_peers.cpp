#include "comm/watch_peers.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <set>
#include <thread>

#include <unistd.h>

#include "core/error.h"
#include "core/json.h"

namespace tessera::comm {
namespace {

constexpr std::size_t kReporters = 3;

// First ranks of different hosts, then the lowest others.
std::vector<std::int64_t> choose_reporters(const std::vector<std::string>& hosts) {
  std::vector<std::int64_t> chosen;
  std::set<std::string> seen;
  const auto size = static_cast<std::int64_t>(hosts.size());
  for (std::int64_t rank = 0; rank < size && chosen.size() < kReporters; ++rank)
    if (seen.insert(hosts[static_cast<std::size_t>(rank)]).second) chosen.push_back(rank);
  for (std::int64_t rank = 0; rank < size && chosen.size() < kReporters; ++rank)
    if (std::find(chosen.begin(), chosen.end(), rank) == chosen.end()) chosen.push_back(rank);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

double watch_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string WatchPeers::introduction(const WatchSocket* socket, std::int64_t group) {
  char host[256] = "?";
  ::gethostname(host, sizeof host - 1);
  std::random_device random;
  const std::uint64_t token = (std::uint64_t{random()} << 32) | random();
  const Json json = {
      {"host", host},
      {"group", group},
      {"token", token},
      {"port", socket != nullptr ? socket->port() : 0},
      {"addresses", socket != nullptr ? WatchSocket::addresses() : std::vector<std::string>()}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

WatchPeers::WatchPeers(std::int64_t rank, WatchSocket* socket,
                       const std::vector<std::string>& introductions)
    : rank_(rank), socket_(socket), table_({}) {
  for (const std::string& text : introductions) {
    const Json json = parse_json(text, "watchdog introduction");
    hosts_.push_back(json.at("host").get<std::string>());
    groups_.push_back(json.at("group").get<std::int64_t>());
    if (token_ == 0) token_ = json.at("token").get<std::uint64_t>();
    Way way;
    const auto port = json.at("port").get<std::uint16_t>();
    if (port != 0)
      for (const Json& address : json.at("addresses"))
        way.candidates.push_back(WatchSocket::address(address.get<std::string>(), port));
    ways_.push_back(std::move(way));
  }
  table_ = WatchTable(hosts_);
  reporters_ = choose_reporters(hosts_);
  reporter_ = std::binary_search(reporters_.begin(), reporters_.end(), rank);
  if (rank == 0) stragglers_.emplace(groups_);
}

void WatchPeers::send(std::int64_t to, WatchPacket packet) {
  if (socket_ == nullptr || to == rank_) return;
  packet.token = token_;
  packet.from = static_cast<std::int32_t>(rank_);
  packet.to = static_cast<std::int32_t>(to);
  const Way& way = ways_[static_cast<std::size_t>(to)];
  if (way.known) return socket_->send(packet, *way.known);
  if (packet.kind == WatchKind::beat) packet.kind = WatchKind::hello;
  for (const sockaddr_in& address : way.candidates) socket_->send(packet, address);
}

void WatchPeers::tell_reporters(const WatchPacket& packet) {
  for (const std::int64_t reporter : reporters_) send(reporter, packet);
}

void WatchPeers::tell_all(const WatchPacket& packet) {
  for (std::int64_t rank = 0; rank < table_.size(); ++rank) send(rank, packet);
}

void WatchPeers::tell_unheard(const WatchPacket& packet, double when) {
  for (std::int64_t rank = 0; rank < table_.size(); ++rank)
    if (!table_.heard_since(rank, when)) send(rank, packet);
}

void WatchPeers::note(std::int64_t rank, const WatchPacket& packet) {
  table_.heard(rank, packet.position, watch_seconds());
  if (!stragglers_) return;
  for (std::string& warning : stragglers_->note(rank, packet.steps, packet.computed))
    warnings_.push_back(std::move(warning));
}

std::vector<std::string> WatchPeers::take_warnings() {
  std::vector<std::string> taken;
  taken.swap(warnings_);
  return taken;
}

std::optional<WatchPacket> WatchPeers::receive(double seconds, const WatchPacket& mine) {
  if (socket_ == nullptr) {
    std::this_thread::sleep_for(std::chrono::duration<double>(std::clamp(seconds, 0.0, 0.1)));
    return std::nullopt;
  }
  WatchPacket packet;
  sockaddr_in from{};
  if (!socket_->receive(packet, from, seconds)) return std::nullopt;
  if (packet.token != token_ || packet.to != rank_ || packet.from < 0 ||
      packet.from >= table_.size() || packet.from == rank_)
    return std::nullopt;
  ways_[static_cast<std::size_t>(packet.from)].known = from;
  packet.position.name[sizeof packet.position.name - 1] = '\0';
  if (packet.kind == WatchKind::left)
    table_.left(packet.from, watch_seconds());
  else
    note(packet.from, packet);
  if (packet.kind == WatchKind::ping || packet.kind == WatchKind::hello) {
    WatchPacket answer = mine;
    answer.kind = packet.kind == WatchKind::ping ? WatchKind::beat : WatchKind::welcome;
    send(packet.from, answer);
  }
  return packet;
}

}  // namespace tessera::comm
