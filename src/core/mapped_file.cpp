#include "core/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

namespace tessera {

int open_regular_file(const std::string& path, Links links) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (links == Links::refuse ? O_NOFOLLOW : 0);
  const int descriptor = ::open(path.c_str(), flags);
  if (descriptor < 0 && errno == ELOOP && links == Links::refuse)
    throw Error(Category::data, path + ": is a symbolic link, expected a regular file");
  if (descriptor < 0)
    throw Error(Category::io, path + ": cannot be opened: " + std::strerror(errno));
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) return descriptor;
  ::close(descriptor);
  throw Error(Category::data, path + ": is not a regular file");
}

MappedFile::MappedFile(const std::string& path, Links links) : path_(path) {
  const int descriptor = open_regular_file(path, links);
  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } closer{descriptor};
  struct stat status {};
  if (::fstat(descriptor, &status) != 0)
    throw Error(Category::io, path + ": cannot be examined: " + std::strerror(errno));
  size_ = status.st_size;
  if (size_ == 0) return;
  void* mapped =
      ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (mapped == MAP_FAILED)
    throw Error(Category::io, path + ": cannot be mapped: " + std::strerror(errno));
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), static_cast<std::size_t>(size_));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

}  // namespace tessera
