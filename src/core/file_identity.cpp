#include "core/file_identity.h"

#include <cerrno>
#include <cstring>

#include <sys/stat.h>

#include "core/error.h"

namespace tessera {

FileIdentity identify_file(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    throw Error(Category::io, path + ": cannot be found any more: " + std::strerror(errno));
  return {status.st_size,
          std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec,
          status.st_dev, status.st_ino};
}

}  // namespace tessera
