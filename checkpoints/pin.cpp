#include "checkpoints/pin.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/mapped_file.h"

namespace tessera::checkpoints {

Pin Pin::for_reading(const std::string& path) {
  const std::string file = path + "/" + kManifestName;
  Pin pin(open_regular_file(file, Links::refuse));
  if (::flock(pin.descriptor_, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    throw Error(Category::data, file + ": its run is removing this checkpoint just now");
  return pin;
}

std::optional<Pin> Pin::for_removal(const std::string& path) {
  const std::string file = path + "/" + kManifestName;
  // Over NFS an exclusive lock needs a file that is open for writing.
  int descriptor = ::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (descriptor < 0)
    descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (descriptor < 0) return Pin(-1);
  Pin pin(descriptor);
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return std::nullopt;
  return pin;
}

Pin::~Pin() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Pin::Pin(Pin&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

}  // namespace tessera::checkpoints
