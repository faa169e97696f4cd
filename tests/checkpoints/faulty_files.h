// A file system that goes wrong on request, over a real folder (readers map files themselves, so
// what is written must be there).
//
//   fail_at(n)   the n-th call that changes something throws Error{io}; later calls work. A full
//   disk takes half of a write first and refuses nothing that needs no space.
//   kill_at(n)   the n-th such call and all later ones do nothing and throw Killed
//   write_durable(...)  what a power cut would leave: it keeps a model of which bytes and names
//   were
//                synced
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "core/file_system.h"

namespace tessera::checkpoints::testing {

// Not a tessera::Error: nothing must catch it, as nothing survives SIGKILL.
struct Killed {};

// What of the unsynced state a power cut keeps.
enum class PowerCut {
  keeps_nothing_unsynced,  // neither names nor bytes
  keeps_names,             // renames reached the disk, unsynced bytes did not
};

enum class Failure { input_output, no_space };
// The operating system's words for it.
const char* reason_of(Failure failure);

// Safe from several threads.
class FaultyFiles : public FileSystem {
 public:
  // `root`: an existing folder; all paths are below it. What it holds already counts as durable.
  explicit FaultyFiles(const std::string& root);
  ~FaultyFiles() override;

  void fail_at(long call, Failure failure = Failure::input_output) {
    fail_at_ = call;
    failure_ = failure;
  }
  void kill_at(long call) { kill_at_ = call; }
  long calls() const { return calls_; }
  // The tree after a power cut now, as real files in `to`.
  void write_durable(const std::string& to, PowerCut cut) const;

  std::unique_ptr<WritableFile> create(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove_all(const std::string& path) override;
  void create_directories(const std::string& path) override;
  void sync_directory(const std::string& path) override;
  std::vector<std::string> list(const std::string& path) override;
  bool exists(const std::string& path) override;
  std::int64_t size(const std::string& path) override;
  std::int64_t free_bytes(const std::string& path) override;
  std::string read(const std::string& path, std::int64_t limit) override;
  // Each read counts, and may fail; on a full disk none does.
  std::unique_ptr<ReadableFile> open(const std::string& path) override;

  // A file or folder as the disk and as the processes see it.
  struct Node {
    bool folder = false;
    std::string live, durable;
    std::map<std::string, std::shared_ptr<Node>> live_names, durable_names;
  };
  // Counts a changing call and fails or dies when it is its turn; with a full disk only when it
  // `grows` something.
  void count(const std::string& what, bool grows = false);
  // Whether the next call fails half-way.
  bool next_is_short() const { return calls_ + 1 == fail_at_ && failure_ == Failure::no_space; }
  std::recursive_mutex& mutex() { return mutex_; }

 private:
  std::shared_ptr<Node> find(const std::string& path) const;
  std::shared_ptr<Node> parent_of(const std::string& path) const;

  std::string root_;
  std::shared_ptr<Node> tree_;
  long calls_ = 0, fail_at_ = -1, kill_at_ = -1;
  Failure failure_ = Failure::input_output;
  std::recursive_mutex mutex_;
};

}  // namespace tessera::checkpoints::testing
