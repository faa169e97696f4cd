// A file mapped read-only, read as little-endian integers at any offset.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace tessera::data {

class MappedFile {
 public:
  // Error{io} when it cannot be opened, Error{data} when it is not a regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::int64_t size() const { return size_; }
  // The value at a byte offset; the caller keeps it inside the file.
  template <typename T>
  T at(std::int64_t offset) const {
    T value;
    std::memcpy(&value, data_ + offset, sizeof value);
    return value;
  }

 private:
  std::string path_;
  const char* data_ = nullptr;  // null for an empty file
  std::int64_t size_ = 0;
};

}  // namespace tessera::data
