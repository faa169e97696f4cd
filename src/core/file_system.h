// The seam between Tessera and the operating system's files. Everything that must survive a crash
// (checkpoints, exports, run files) is written through it, so that tests can make the n-th call
// fail or forget unsynced writes. Every failure is Error{io} naming the path and the system's
// reason.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// A file being written, sequentially. Destroying it closes without syncing.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual void append(const void* bytes, std::size_t count) = 0;
  void append(std::string_view text) { append(text.data(), text.size()); }
  // Data and size are on the device when it returns.
  virtual void sync() = 0;
  virtual void close() = 0;
};

// A file read at any place. Safe from several threads.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  virtual std::int64_t size() const = 0;
  // `count` bytes from `offset`; Error{data} when the file ends before.
  virtual void read(std::int64_t offset, void* to, std::int64_t count) const = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // Creates or truncates; refuses to follow a symbolic link at the last component.
  virtual std::unique_ptr<WritableFile> create(const std::string& path) = 0;
  virtual void rename(const std::string& from, const std::string& to) = 0;
  virtual void remove_all(const std::string& path) = 0;
  virtual void create_directories(const std::string& path) = 0;
  // fsync of a directory: names created, renamed or removed in it are durable afterwards.
  virtual void sync_directory(const std::string& path) = 0;

  // Names in a directory, sorted; empty when it does not exist.
  virtual std::vector<std::string> list(const std::string& path) = 0;
  virtual bool exists(const std::string& path) = 0;
  virtual std::int64_t size(const std::string& path) = 0;
  // Bytes an unprivileged user may still write below `path`.
  virtual std::int64_t free_bytes(const std::string& path) = 0;
  // The whole file; Error{data} when it is larger than `limit` bytes.
  virtual std::string read(const std::string& path, std::int64_t limit) = 0;
  // For reading; symbolic links are not followed. Error{data} when it is no regular file.
  virtual std::unique_ptr<ReadableFile> open(const std::string& path);

  // The operating system's own; lives for the program's life; safe from any thread.
  static FileSystem& posix();
};

// Writes `text` so that after a crash `path` holds either all of it or what was there before:
// PATH.tmp, sync, rename, sync of the folder.
void write_atomically(FileSystem& files, const std::string& path, std::string_view text);

// Creates `path` and those of its parents that are missing; each is in its parent for good when it
// returns.
void create_durably(FileSystem& files, const std::string& path);

// The folder part of a path ("." where there is none).
std::string parent_directory(const std::string& path);

}  // namespace tessera
