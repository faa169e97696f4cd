#include "data/mapped_file.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

namespace tessera::data {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0)
    throw Error(Category::io, path + ": cannot be opened: " + std::strerror(errno));
  struct stat status {};
  const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  void* mapped = nullptr;
  if (regular && status.st_size > 0)
    mapped = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE,
                    descriptor, 0);
  const int code = errno;
  ::close(descriptor);
  if (!regular) throw Error(Category::data, path + ": is not a regular file");
  if (mapped == MAP_FAILED)
    throw Error(Category::io, path + ": cannot be mapped: " + std::strerror(code));
  size_ = status.st_size;
  data_ = static_cast<const char*>(mapped);
  if (size_ > 0) ::madvise(mapped, static_cast<std::size_t>(size_), MADV_SEQUENTIAL);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), static_cast<std::size_t>(size_));
}

}  // namespace tessera::data
