// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tessera::checkpoints {

// Whether the last component of a path may be a symbolic link.
enum class Links { follow, refuse };

class MappedFile {
 public:
  // Error{io} when it cannot be opened, Error{data} when it is not a regular file.
  MappedFile(const std::string& path, Links links);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::byte* data() const { return data_; }
  std::int64_t size() const { return size_; }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(data_), static_cast<std::size_t>(size_)};
  }

 private:
  const std::byte* data_ = nullptr;  // null for an empty file
  std::int64_t size_ = 0;
};

}  // namespace tessera::checkpoints
