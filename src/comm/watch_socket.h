// Datagrams between the watchdogs of a job's ranks. They must work while MPI is stuck and may be
// lost: whoever needs an answer asks again. UDP over IPv4.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <netinet/in.h>

#include "comm/position.h"

namespace tessera::comm {

enum class WatchKind : std::uint8_t {
  hello,    // rank -> reporter: my position, and please acknowledge, so that I know the way
  welcome,  // reporter -> rank: the acknowledgement
  beat,     // rank -> reporter: my position
  ping,     // reporter -> rank: answer with a beat, now
  alarm,    // rank -> reporter: my time limit has passed
  verdict,  // reporter -> rank: leave; text is the verdict
  left      // rank -> reporter: I leave by myself
};

// All ranks run one build, so a packet is its bytes. Strangers' packets lack the token.
struct WatchPacket {
  std::uint64_t token = 0;  // of the job
  std::int32_t from = 0, to = 0;
  WatchKind kind = WatchKind::beat;
  Position position;
  std::int64_t steps = 0;    // done in this process
  double computed = 0;       // seconds, in those steps
  std::uint32_t length = 0;  // of text
  char text[1024] = "";
};

class WatchSocket {
 public:
  // Any free port, on all of this host's addresses. Error{device} when the system has no sockets.
  WatchSocket();
  ~WatchSocket();
  WatchSocket(const WatchSocket&) = delete;
  WatchSocket& operator=(const WatchSocket&) = delete;

  std::uint16_t port() const { return port_; }
  // This host's IPv4 addresses on interfaces that are up, loopback last.
  static std::vector<std::string> addresses();
  static sockaddr_in address(const std::string& text, std::uint16_t port);

  // Failures are the same as a lost packet.
  void send(const WatchPacket& packet, const sockaddr_in& to) const noexcept;
  // Waits up to `seconds` for a packet; false when none came, or when wake() was called.
  bool receive(WatchPacket& packet, sockaddr_in& from, double seconds) noexcept;
  // Ends a receive() at once, from any thread.
  void wake() noexcept;

 private:
  int socket_ = -1, wake_ = -1;
  std::uint16_t port_ = 0;
};

}  // namespace tessera::comm
