#include "tests/checkpoints/crash_disk.h"

#include <filesystem>
#include <set>

#include "checkpoints/names.h"
#include "core/error.h"
#include "core/random.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {
namespace {

namespace fs = std::filesystem;
using Kind = FileOperation::Kind;

class RecordingFile : public WritableFile {
 public:
  RecordingFile(RecordingFiles& files, std::string path, std::unique_ptr<WritableFile> real)
      : files_(files), path_(std::move(path)), real_(std::move(real)) {}
  void append(const void* bytes, std::size_t count) override {
    real_->append(bytes, count);
    files_.note({Kind::append, path_, std::string(static_cast<const char*>(bytes), count)});
  }
  void sync() override { files_.note({Kind::sync, path_, ""}); }
  void close() override { real_->close(); }

 private:
  RecordingFiles& files_;
  std::string path_;
  std::unique_ptr<WritableFile> real_;
};

// The ways in which `uncertain` things may have ended: none, all, all but one, one alone, and some
// at random.
std::vector<CrashDisk::Fate> fates(std::size_t uncertain, std::uint64_t seed) {
  std::vector<CrashDisk::Fate> result;
  for (const int what : {0, 1, 2}) result.push_back([what](std::size_t) { return what; });
  for (std::size_t one = 0; one < uncertain; ++one)
    for (const auto& [rest, single] : {std::pair{1, 0}, {0, 1}, {1, 2}})
      result.push_back(
          [one, rest = rest, single = single](std::size_t i) { return i == one ? single : rest; });
  for (std::uint64_t round = 0; round < 4 * uncertain; ++round) {
    const CounterRandom random(seed, hash_name("fate " + std::to_string(round)));
    result.push_back([random](std::size_t i) { return static_cast<int>(random.bits(i) % 3); });
  }
  return result;
}

}  // namespace

void RecordingFiles::note(FileOperation operation) {
  const std::lock_guard lock(mutex_);
  log.push_back(std::move(operation));
}

std::unique_ptr<WritableFile> RecordingFiles::create(const std::string& path) {
  auto real = posix().create(path);
  note({Kind::create, path, ""});
  return std::make_unique<RecordingFile>(*this, path, std::move(real));
}

void RecordingFiles::rename(const std::string& from, const std::string& to) {
  posix().rename(from, to);
  note({Kind::rename, from, to});
}

void RecordingFiles::remove_all(const std::string& path) {
  if (fs::is_directory(path))
    for (const std::string& name : list(path)) remove_all(path + "/" + name);
  const bool was_there = exists(path);
  posix().remove_all(path);
  if (was_there) note({Kind::remove, path, ""});
}

void RecordingFiles::create_directories(const std::string& path) {
  const bool was_there = exists(path);
  posix().create_directories(path);
  if (!was_there) note({Kind::create_folder, path, ""});
}

void RecordingFiles::sync_directory(const std::string& path) {
  note({Kind::sync_folder, path, ""});
}

// A name that was added (to a node), removed (no node), or renamed from `from`.
struct NameChange {
  std::string name, from;
  std::shared_ptr<CrashDisk::Node> node;
};

struct CrashDisk::Node {
  bool folder = false;
  std::string certain;               // bytes, of a file
  std::vector<std::string> written;  // behind them since the last sync
  std::map<std::string, std::shared_ptr<Node>> live, certain_names;
  std::vector<NameChange> changes;  // since the last sync

  std::string bytes(const Fate& fate, std::size_t& at) const {
    std::string result = certain;
    std::size_t end = result.size();  // of what is there
    for (const std::string& piece : written) {
      const int what = fate(at++);
      const std::size_t kept = what == 0 ? 0 : what == 1 ? piece.size() : piece.size() / 2;
      const std::size_t start = result.size();
      result += piece.substr(0, kept) + std::string(piece.size() - kept, '\0');
      if (kept > 0) end = start + kept;
    }
    result.resize(end);
    return result;
  }

  void collect(const Fate& fate, std::size_t& at, const std::string& path,
               std::map<std::string, std::string>& out) const {
    if (!folder) {
      out[path] = bytes(fate, at);
      return;
    }
    if (!path.empty()) out[path + "/"] = "";
    auto names = certain_names;
    for (const NameChange& change : changes) {
      if (fate(at++) == 0) continue;
      if (!change.from.empty()) names.erase(change.from);
      if (change.node)
        names[change.name] = change.node;
      else
        names.erase(change.name);
    }
    for (const auto& [name, node] : names)
      node->collect(fate, at, path.empty() ? name : path + "/" + name, out);
  }
};

namespace {

std::shared_ptr<CrashDisk::Node> scan(const std::string& path) {
  auto node = std::make_shared<CrashDisk::Node>();
  node->folder = fs::is_directory(path);
  if (!node->folder) {
    node->certain = read_bytes(path);
    return node;
  }
  for (const auto& entry : fs::directory_iterator(path))
    node->live[entry.path().filename().string()] = scan(entry.path().string());
  node->certain_names = node->live;
  return node;
}

}  // namespace

CrashDisk::CrashDisk(const std::string& root) : root_(root), tree_(scan(root)) {}

std::shared_ptr<CrashDisk::Node> CrashDisk::find(const std::string& path) const {
  if (path == root_) return tree_;
  TESSERA_CHECK(path.starts_with(root_ + "/"));
  return find(parent_directory(path))->live.at(base_name(path));
}

void CrashDisk::apply(const FileOperation& operation) {
  const std::string name = base_name(operation.path);
  const auto parent = [&] { return find(parent_directory(operation.path)); };
  switch (operation.kind) {
    case Kind::create:
    case Kind::create_folder: {
      const auto folder = parent();
      TESSERA_CHECK(!folder->live.count(name));  // nothing here writes a file twice
      const auto node = folder->live[name] = std::make_shared<Node>();
      node->folder = operation.kind == Kind::create_folder;
      folder->changes.push_back({name, "", node});
      break;
    }
    case Kind::append:
      find(operation.path)->written.push_back(operation.second);
      break;
    case Kind::sync: {
      const auto node = find(operation.path);
      for (const std::string& piece : node->written) node->certain += piece;
      node->written.clear();
      break;
    }
    case Kind::rename: {
      const auto folder = parent();
      TESSERA_CHECK(parent_directory(operation.second) == parent_directory(operation.path));
      const std::string to = base_name(operation.second);
      const auto node = folder->live.at(name);
      folder->live.erase(name);
      folder->live[to] = node;
      folder->changes.push_back({to, name, node});
      break;
    }
    case Kind::remove:
      parent()->live.erase(name);
      parent()->changes.push_back({name, "", nullptr});
      break;
    case Kind::sync_folder: {
      const auto node = find(operation.path);
      node->certain_names = node->live;
      node->changes.clear();
      break;
    }
  }
}

std::size_t CrashDisk::uncertain() const {
  std::size_t at = 0;
  std::map<std::string, std::string> ignored;
  tree_->collect([](std::size_t) { return 1; }, at, "", ignored);
  return at;
}

std::map<std::string, std::string> CrashDisk::after_power_cut(const Fate& fate) const {
  std::size_t at = 0;
  std::map<std::string, std::string> tree;
  tree_->collect(fate, at, "", tree);
  return tree;
}

void for_each_state(const std::string& start, const std::string& recorded_in,
                    const std::vector<FileOperation>& log,
                    const std::function<void(const std::map<std::string, std::string>& tree,
                                             std::size_t done)>& check) {
  CrashDisk disk(start);
  std::set<std::map<std::string, std::string>> seen;
  for (std::size_t done = 0; done <= log.size(); ++done) {
    if (done > 0) {
      FileOperation operation = log[done - 1];
      operation.path = start + operation.path.substr(recorded_in.size());
      if (operation.kind == Kind::rename)
        operation.second = start + operation.second.substr(recorded_in.size());
      disk.apply(operation);
    }
    for (const auto& fate : fates(disk.uncertain(), done)) {
      const auto tree = disk.after_power_cut(fate);
      if (seen.insert(tree).second || done == log.size()) check(tree, done);
    }
  }
}

void materialise(const std::map<std::string, std::string>& tree, const std::string& to) {
  fs::remove_all(to);
  fs::create_directories(to);
  for (const auto& [path, bytes] : tree) {
    if (path.ends_with('/'))
      fs::create_directories(to + "/" + path);
    else
      write_bytes(to + "/" + path, bytes);
  }
}

}  // namespace tessera::checkpoints::testing
