#include "comm/watch_socket.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/error.h"

namespace tessera::comm {
namespace {

static_assert(std::is_trivially_copyable_v<WatchPacket>);
static_assert(sizeof(WatchPacket) <= 1400, "one datagram of any network");
constexpr std::size_t kHead = offsetof(WatchPacket, text);

}  // namespace

WatchSocket::WatchSocket() {
  socket_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t size = sizeof any;
  if (socket_ < 0 || wake_ < 0 ||
      ::bind(socket_, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0 ||
      ::getsockname(socket_, reinterpret_cast<sockaddr*>(&any), &size) != 0) {
    const std::string why = std::strerror(errno);
    if (socket_ >= 0) ::close(socket_);
    if (wake_ >= 0) ::close(wake_);
    throw Error(Category::device, "the watchdog's UDP socket cannot be opened: " + why);
  }
  port_ = ntohs(any.sin_port);
  // A reporter is answered by all ranks at once; the system gives as much of this as it allows.
  const int bytes = 4 << 20;
  (void)::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

WatchSocket::~WatchSocket() {
  ::close(socket_);
  ::close(wake_);
}

std::vector<std::string> WatchSocket::addresses() {
  std::vector<std::string> found, loopback;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {"127.0.0.1"};
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET) continue;
    if ((at->ifa_flags & IFF_UP) == 0) continue;
    char text[INET_ADDRSTRLEN] = "";
    const auto* address = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
    ::inet_ntop(AF_INET, &address->sin_addr, text, sizeof text);
    ((at->ifa_flags & IFF_LOOPBACK) != 0 ? loopback : found).emplace_back(text);
  }
  ::freeifaddrs(list);
  found.insert(found.end(), loopback.begin(), loopback.end());
  return found;
}

sockaddr_in WatchSocket::address(const std::string& text, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, text.c_str(), &address.sin_addr) != 1)
    throw Error(Category::device, "'" + text + "' is no IPv4 address");
  return address;
}

void WatchSocket::send(const WatchPacket& packet, const sockaddr_in& to) const noexcept {
  const std::size_t length = std::min<std::size_t>(packet.length, sizeof packet.text);
  (void)::sendto(socket_, &packet, kHead + length, MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

bool WatchSocket::receive(WatchPacket& packet, sockaddr_in& from, double seconds) noexcept {
  std::array<pollfd, 2> watched = {{{socket_, POLLIN, 0}, {wake_, POLLIN, 0}}};
  const int milliseconds = static_cast<int>(std::ceil(1e3 * std::clamp(seconds, 0.0, 1e5)));
  if (::poll(watched.data(), watched.size(), milliseconds) <= 0) return false;
  if ((watched[1].revents & POLLIN) != 0) return false;
  socklen_t size = sizeof from;
  const ssize_t count =
      ::recvfrom(socket_, &packet, sizeof packet, 0, reinterpret_cast<sockaddr*>(&from), &size);
  return count >= static_cast<ssize_t>(kHead) && packet.length <= sizeof packet.text &&
         count == static_cast<ssize_t>(kHead + packet.length);
}

void WatchSocket::wake() noexcept {
  const std::uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
}

}  // namespace tessera::comm
