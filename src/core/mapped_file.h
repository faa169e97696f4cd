// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace tessera {

// Whether the last component of a path may be a symbolic link.
enum class Links { follow, refuse };

// A descriptor of a regular file, for reading; the caller closes it. Error{io} when it cannot be
// opened, Error{data} when it is something else.
int open_regular_file(const std::string& path, Links links);

class MappedFile {
 public:
  // Error{io} when it cannot be opened, Error{data} when it is not a regular file.
  explicit MappedFile(const std::string& path, Links links = Links::follow);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::string& path() const { return path_; }
  const std::byte* data() const { return data_; }
  std::int64_t size() const { return size_; }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(data_), static_cast<std::size_t>(size_)};
  }
  // The value at a byte offset; the caller keeps it inside the file.
  template <typename T>
  T at(std::int64_t offset) const {
    T value;
    std::memcpy(&value, data_ + offset, sizeof value);
    return value;
  }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;  // null for an empty file
  std::int64_t size_ = 0;
};

}  // namespace tessera
