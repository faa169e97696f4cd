#include "core/file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/error.h"
#include "core/mapped_file.h"

namespace tessera {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& what, int code) {
  throw Error(Category::io, path + ": " + what + ": " + std::strerror(code));
}

class PosixFile : public WritableFile {
 public:
  PosixFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  ~PosixFile() override {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  void append(const void* bytes, std::size_t count) override {
    const char* at = static_cast<const char*>(bytes);
    while (count > 0) {
      const ssize_t written = ::write(descriptor_, at, count);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(path_, "write failed", errno);
      at += written;
      count -= static_cast<std::size_t>(written);
    }
  }

  void sync() override {
    if (::fsync(descriptor_) != 0) fail(path_, "fsync failed", errno);
  }

  void close() override {
    const int descriptor = descriptor_;
    descriptor_ = -1;
    if (::close(descriptor) != 0) fail(path_, "close failed", errno);
  }

 private:
  std::string path_;
  int descriptor_;
};

class PosixReadableFile : public ReadableFile {
 public:
  explicit PosixReadableFile(const std::string& path)
      : path_(path), descriptor_(open_regular_file(path, Links::refuse)) {}
  ~PosixReadableFile() override { ::close(descriptor_); }

  std::int64_t size() const override {
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0) fail(path_, "cannot be examined", errno);
    return status.st_size;
  }

  void read(std::int64_t offset, void* to, std::int64_t count) const override {
    char* at = static_cast<char*>(to);
    while (count > 0) {
      const ssize_t got = ::pread(descriptor_, at, static_cast<std::size_t>(count), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(path_, "cannot be read", errno);
      if (got == 0)
        throw Error(Category::data,
                    path_ + ": ends at byte " + std::to_string(offset) + ", earlier than it did");
      at += got;
      offset += got;
      count -= got;
    }
  }

 private:
  std::string path_;
  int descriptor_;
};

class PosixFileSystem : public FileSystem {
 public:
  std::unique_ptr<WritableFile> create(const std::string& path) override {
    const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
    const int descriptor = ::open(path.c_str(), flags, 0644);
    if (descriptor < 0) fail(path, "cannot be created", errno);
    return std::make_unique<PosixFile>(path, descriptor);
  }

  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail(from, "cannot be renamed to " + to, errno);
  }

  void remove_all(const std::string& path) override {
    std::error_code code;
    std::filesystem::remove_all(path, code);
    if (code) fail(path, "cannot be removed", code.value());
  }

  void create_directories(const std::string& path) override {
    std::error_code code;
    std::filesystem::create_directories(path, code);
    if (code) fail(path, "folder cannot be created", code.value());
  }

  void sync_directory(const std::string& path) override {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) fail(path, "cannot be opened", errno);
    const int result = ::fsync(descriptor);
    const int code = errno;
    ::close(descriptor);
    if (result != 0) fail(path, "fsync failed", code);
  }

  std::vector<std::string> list(const std::string& path) override {
    std::vector<std::string> names;
    std::error_code code;
    for (std::filesystem::directory_iterator at(path, code), end; !code && at != end;
         at.increment(code))
      names.push_back(at->path().filename().string());
    if (code && code != std::errc::no_such_file_or_directory)
      fail(path, "cannot be listed", code.value());
    std::sort(names.begin(), names.end());
    return names;
  }

  bool exists(const std::string& path) override {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0;
  }

  std::int64_t size(const std::string& path) override {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) fail(path, "cannot be examined", errno);
    return status.st_size;
  }

  std::int64_t free_bytes(const std::string& path) override {
    struct statvfs status {};
    if (::statvfs(path.c_str(), &status) != 0) fail(path, "free space cannot be read", errno);
    return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
  }

  std::string read(const std::string& path, std::int64_t limit) override {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) fail(path, "cannot be opened", errno);
    struct Closer {
      int descriptor;
      ~Closer() { ::close(descriptor); }
    } closer{descriptor};
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) fail(path, "cannot be examined", errno);
    if (S_ISDIR(status.st_mode)) fail(path, "cannot be read", EISDIR);
    std::string text;
    std::string piece(1 << 16, '\0');
    while (true) {
      const ssize_t count = ::read(descriptor, piece.data(), piece.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail(path, "cannot be read", errno);
      if (count == 0) return text;
      text.append(piece.data(), static_cast<std::size_t>(count));
      if (static_cast<std::int64_t>(text.size()) > limit)
        throw Error(Category::data,
                    path + ": larger than the " + std::to_string(limit) + " bytes allowed here");
    }
  }
};

}  // namespace

std::unique_ptr<ReadableFile> FileSystem::open(const std::string& path) {
  return std::make_unique<PosixReadableFile>(path);
}

FileSystem& FileSystem::posix() {
  static PosixFileSystem files;
  return files;
}

void write_atomically(FileSystem& files, const std::string& path, std::string_view text) {
  const std::string temporary = path + ".tmp";
  {
    const auto file = files.create(temporary);
    file->append(text);
    file->sync();
    file->close();
  }
  files.rename(temporary, path);
  files.sync_directory(parent_directory(path));
}

void create_durably(FileSystem& files, const std::string& path) {
  if (files.exists(path)) return;
  const std::string parent = parent_directory(path);
  if (parent != path) create_durably(files, parent);
  files.create_directories(path);
  files.sync_directory(parent);
}

std::string parent_directory(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace tessera
