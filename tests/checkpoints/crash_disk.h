// What a disk may hold after a power cut.
//
// RecordingFiles passes calls on to the operating system and writes them down. CrashDisk replays
// the first n of them on a model of a disk in which only a sync makes anything certain: since the
// last sync of a file each of its writes, and since the last sync of a folder each name that was
// added, removed or renamed in it, may or may not be there, whatever the order was; a write may be
// there in part. A rename itself is atomic.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/file_system.h"

namespace tessera::checkpoints::testing {

struct FileOperation {
  enum class Kind { create, append, sync, rename, remove, create_folder, sync_folder };
  Kind kind;
  std::string path, second;  // second: bytes of an append, target of a rename
};

// Safe from several threads; the order of the log is an order in which the calls may have happened.
class RecordingFiles : public FileSystem {
 public:
  std::vector<FileOperation> log;

  std::unique_ptr<WritableFile> create(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove_all(const std::string& path) override;
  void create_directories(const std::string& path) override;
  void sync_directory(const std::string& path) override;
  std::vector<std::string> list(const std::string& path) override { return posix().list(path); }
  bool exists(const std::string& path) override { return posix().exists(path); }
  std::int64_t size(const std::string& path) override { return posix().size(path); }
  std::int64_t free_bytes(const std::string& path) override { return posix().free_bytes(path); }
  std::string read(const std::string& path, std::int64_t limit) override {
    return posix().read(path, limit);
  }
  void note(FileOperation operation);

 private:
  std::mutex mutex_;
};

class CrashDisk {
 public:
  // The tree below `root`, all of it certain.
  explicit CrashDisk(const std::string& root);
  void apply(const FileOperation& operation);
  // Calls and names that are not certain.
  std::size_t uncertain() const;
  // Fate of the i-th uncertain thing: 0 it is lost, 1 it is there, 2 (a write) half of it is.
  using Fate = std::function<int(std::size_t)>;
  // The tree that is left: path below the root -> bytes; folders end in '/'.
  std::map<std::string, std::string> after_power_cut(const Fate& fate) const;

  struct Node;

 private:
  std::shared_ptr<Node> find(const std::string& path) const;
  std::string root_;
  std::shared_ptr<Node> tree_;
};

// Every state that a power cut may leave at any point of `log`, recorded below `recorded_in`, on
// top of what `start` holds: calls `check` with each tree (once, but always after the last
// operation) and the number of operations before the cut. Of the uncertain things none are there,
// all, all but one, one alone, and some at random.
void for_each_state(const std::string& start, const std::string& recorded_in,
                    const std::vector<FileOperation>& log,
                    const std::function<void(const std::map<std::string, std::string>& tree,
                                             std::size_t done)>& check);

// Puts a tree into the folder `to`, which is emptied first.
void materialise(const std::map<std::string, std::string>& tree, const std::string& to);

}  // namespace tessera::checkpoints::testing
