#include "tests/checkpoints/faulty_files.h"

#include <filesystem>

#include "checkpoints/names.h"
#include "core/error.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {
namespace {

using Node = FaultyFiles::Node;
namespace fs = std::filesystem;

std::shared_ptr<Node> scan(const fs::path& path) {
  auto node = std::make_shared<Node>();
  node->folder = fs::is_directory(path);
  if (!node->folder) {
    node->live = node->durable = read_bytes(path.string());
    return node;
  }
  for (const auto& entry : fs::directory_iterator(path))
    node->live_names[entry.path().filename().string()] = scan(entry.path());
  node->durable_names = node->live_names;
  return node;
}

void materialise(const Node& node, const std::string& to, PowerCut cut) {
  if (!node.folder) {
    write_bytes(to, node.durable);
    return;
  }
  fs::create_directories(to);
  const auto& names = cut == PowerCut::keeps_names ? node.live_names : node.durable_names;
  for (const auto& [name, child] : names) materialise(*child, to + "/" + name, cut);
}

class FaultyFile : public WritableFile {
 public:
  FaultyFile(FaultyFiles& files, std::shared_ptr<Node> node, std::unique_ptr<WritableFile> real)
      : files_(files), node_(std::move(node)), real_(std::move(real)) {}
  void append(const void* bytes, std::size_t count) override {
    const std::lock_guard lock(files_.mutex());
    if (files_.next_is_short()) real_->append(bytes, count / 2);
    files_.count("append", true);
    real_->append(bytes, count);
    node_->live.append(static_cast<const char*>(bytes), count);
  }
  void sync() override {
    const std::lock_guard lock(files_.mutex());
    files_.count("sync", true);
    node_->durable = node_->live;
  }
  void close() override {
    const std::lock_guard lock(files_.mutex());
    files_.count("close", true);
    real_->close();
  }

 private:
  FaultyFiles& files_;
  std::shared_ptr<Node> node_;
  std::unique_ptr<WritableFile> real_;
};

class FaultyReading : public ReadableFile {
 public:
  FaultyReading(FaultyFiles& files, std::unique_ptr<ReadableFile> real)
      : files_(files), real_(std::move(real)) {}
  std::int64_t size() const override {
    const std::lock_guard lock(files_.mutex());
    files_.count("size");
    return real_->size();
  }
  void read(std::int64_t offset, void* to, std::int64_t count) const override {
    const std::lock_guard lock(files_.mutex());
    files_.count("read");
    real_->read(offset, to, count);
  }

 private:
  FaultyFiles& files_;
  std::unique_ptr<ReadableFile> real_;
};

}  // namespace

FaultyFiles::FaultyFiles(const std::string& root) : root_(root), tree_(scan(root)) {}
FaultyFiles::~FaultyFiles() = default;

const char* reason_of(Failure failure) {
  return failure == Failure::no_space ? "No space left on device" : "Input/output error";
}

void FaultyFiles::count(const std::string& what, bool grows) {
  ++calls_;
  if (kill_at_ >= 0 && calls_ >= kill_at_) throw Killed{};
  if (calls_ == fail_at_ && (grows || failure_ == Failure::input_output))
    throw Error(Category::io,
                "call " + std::to_string(calls_) + ", " + what + ": " + reason_of(failure_));
}

std::shared_ptr<Node> FaultyFiles::find(const std::string& path) const {
  if (without_slashes(path) == root_) return tree_;
  const auto parent = parent_of(path);
  if (!parent) return nullptr;
  const auto found = parent->live_names.find(base_name(path));
  return found == parent->live_names.end() ? nullptr : found->second;
}

std::shared_ptr<Node> FaultyFiles::parent_of(const std::string& path) const {
  TESSERA_CHECK(path.starts_with(root_ + "/"));
  return find(parent_directory(path));
}

void FaultyFiles::write_durable(const std::string& to, PowerCut cut) const {
  fs::remove_all(to);
  materialise(*tree_, to, cut);
}

std::unique_ptr<WritableFile> FaultyFiles::create(const std::string& path) {
  const std::lock_guard lock(mutex_);
  count("create " + path, true);
  auto& node = parent_of(path)->live_names[base_name(path)];
  if (!node) node = std::make_shared<Node>();
  node->live.clear();
  return std::make_unique<FaultyFile>(*this, node, posix().create(path));
}

void FaultyFiles::rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  count("rename " + from);
  posix().rename(from, to);
  auto& names = parent_of(from)->live_names;
  const auto node = names.at(base_name(from));
  names.erase(base_name(from));
  parent_of(to)->live_names[base_name(to)] = node;
}

void FaultyFiles::remove_all(const std::string& path) {
  const std::lock_guard lock(mutex_);
  // A removal is many calls: the disk may stop in its middle.
  if (exists(path) && fs::is_directory(path))
    for (const std::string& name : list(path)) remove_all(path + "/" + name);
  count("remove " + path);
  posix().remove_all(path);
  if (const auto parent = parent_of(path)) parent->live_names.erase(base_name(path));
}

void FaultyFiles::create_directories(const std::string& path) {
  const std::lock_guard lock(mutex_);
  count("create folder " + path, true);
  posix().create_directories(path);
  if (find(path)) return;
  const auto parent = parent_of(path);
  TESSERA_CHECK(parent != nullptr);  // one level at a time
  parent->live_names[base_name(path)] = std::make_shared<Node>(Node{true, {}, {}, {}, {}});
}

void FaultyFiles::sync_directory(const std::string& path) {
  const std::lock_guard lock(mutex_);
  count("sync folder " + path, true);
  const auto node = find(path);
  node->durable_names = node->live_names;
}

std::unique_ptr<ReadableFile> FaultyFiles::open(const std::string& path) {
  const std::lock_guard lock(mutex_);
  count("open " + path);
  return std::make_unique<FaultyReading>(*this, posix().open(path));
}

std::vector<std::string> FaultyFiles::list(const std::string& path) {
  return posix().list(path);
}
bool FaultyFiles::exists(const std::string& path) {
  return posix().exists(path);
}
std::int64_t FaultyFiles::size(const std::string& path) {
  return posix().size(path);
}
std::int64_t FaultyFiles::free_bytes(const std::string& path) {
  return posix().free_bytes(path);
}
std::string FaultyFiles::read(const std::string& path, std::int64_t limit) {
  return posix().read(path, limit);
}

}  // namespace tessera::checkpoints::testing
