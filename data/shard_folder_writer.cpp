#include "data/shard_folder_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file_system.h"

namespace tessera::data {

// Held by the one process that writes into the folder; the system drops it when the process ends.
struct ShardFolderWriter::Lock {
  explicit Lock(const std::string& folder) {
    descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
      throw Error(Category::io, folder + ": cannot be opened: " + std::strerror(errno));
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(descriptor);
      throw Error(Category::config,
                  folder +
                      ": another process is writing shards there; wait for it or choose "
                      "another folder");
    }
  }
  ~Lock() { ::close(descriptor); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  int descriptor = -1;
};

ShardFolderWriter::ShardFolderWriter(const std::string& path, const ShardKind& kind,
                                     const std::string& tokenizer_json,
                                     const ShardFolderOptions& options)
    : path_(path), tokenizer_json_(tokenizer_json), options_(options) {
  if (options.shard_tokens < 1) throw Error(Category::config, "a shard needs at least one token");
  TESSERA_CHECK(tokenizer_json.empty() == kind.tokenizer_digest.empty());
  manifest_.kind = kind;
  FileSystem::posix().create_directories(path);
  lock_ = std::make_unique<Lock>(path);
  clean(options.force);
}

ShardFolderWriter::~ShardFolderWriter() {
  if (finished_) return;
  shard_.reset();
  for (const char* name : {kManifestName, kTokenizerName}) ::unlink((path_ + "/" + name).c_str());
  if (recorded_) return;
  ::unlink((path_ + "/" + kProgressName).c_str());
  for (const ManifestShard& shard : manifest_.shards) ::unlink((path_ + "/" + shard.file).c_str());
  ::rmdir(path_.c_str());  // only when nothing else is in it
}

// The manifest goes first, so that the rest never looks finished.
void ShardFolderWriter::clean(bool force) {
  FileSystem& files = FileSystem::posix();
  const auto progress = find_progress(path_, options_.job, manifest_.kind);
  if (is_shard_folder(path_)) {
    if (!force && !progress)
      throw Error(Category::config, path_ +
                                        ": already holds finished shards; choose another "
                                        "folder, or replace them with --force");
    files.remove_all(path_ + "/" + kManifestName);
    files.sync_directory(path_);
  }
  std::set<std::string> kept;
  if (progress) {
    manifest_.shards = progress->shards;
    kept_documents_ = progress->document;
    kept_piece_ = progress->tokens;
    kept_total_ = manifest_.totals().tokens;
    kept.insert(kProgressName);
    recorded_ = true;
    for (const ManifestShard& shard : manifest_.shards) kept.insert(shard.file);
  } else if (files.exists(path_ + "/" + kProgressName)) {
    // First, so that shards of two jobs are never taken together.
    files.remove_all(path_ + "/" + kProgressName);
    files.sync_directory(path_);
  }
  for (const std::string& name : files.list(path_))
    if (is_shard_folder_name(name) && !kept.contains(name)) files.remove_all(path_ + "/" + name);
}

void ShardFolderWriter::next_shard() {
  shard_.emplace(path_ + "/" + shard_name(static_cast<std::int64_t>(manifest_.shards.size())),
                 manifest_.kind, options_.chunk_tokens);
}

void ShardFolderWriter::close_shard(std::int64_t document, std::int64_t tokens) {
  const FinishedShard done = shard_->finish();
  shard_.reset();
  manifest_.shards.push_back({shard_name(static_cast<std::int64_t>(manifest_.shards.size())),
                              done.counts, done.bytes, done.sha256});
  open_ = {};
  if (options_.job.empty()) return;
  FileSystem& files = FileSystem::posix();
  files.sync_directory(path_);
  const ShardProgress progress{options_.job, manifest_.kind, manifest_.shards, document, tokens};
  write_atomically(files, path_ + "/" + kProgressName, progress.to_json());
  recorded_ = true;
}

void ShardFolderWriter::begin_document(std::int64_t tokens, std::int64_t index) {
  TESSERA_CHECK(expected_ == 0 && tokens >= 0 && (options_.job.empty() || index >= index_));
  expected_ = length_ = tokens;
  index_ = index;
  skipping_ = has(index);
  skip_ = skipping_ ? tokens : index == kept_documents_ ? kept_piece_ : 0;
  TESSERA_CHECK(skip_ <= tokens);
  if (skipping_) return;
  if (shard_ && shard_->tokens() > 0 && tokens > options_.shard_tokens - shard_->tokens())
    close_shard(index, 0);
  if (!shard_) next_shard();
}

void ShardFolderWriter::append(std::span<const std::int32_t> ids) {
  TESSERA_CHECK(static_cast<std::int64_t>(ids.size()) <= expected_);
  const std::int64_t passed = std::min(skip_, static_cast<std::int64_t>(ids.size()));
  ids = ids.subspan(static_cast<std::size_t>(passed));
  skip_ -= passed;
  expected_ -= passed;
  while (!ids.empty()) {
    if (shard_->tokens() == options_.shard_tokens) {
      shard_->end_document(0);  // a piece; its text is counted with the last one
      close_shard(index_, length_ - expected_);
      next_shard();
    }
    const std::int64_t room = options_.shard_tokens - shard_->tokens();
    const auto piece = ids.first(std::min(ids.size(), static_cast<std::size_t>(room)));
    shard_->append(piece);
    expected_ -= static_cast<std::int64_t>(piece.size());
    ids = ids.subspan(piece.size());
  }
}

void ShardFolderWriter::end_document(std::int64_t text_bytes) {
  TESSERA_CHECK(expected_ == 0 && (shard_ || skipping_));
  if (skipping_) return;
  shard_->end_document(text_bytes);
  open_.documents += 1;
  open_.text_bytes += text_bytes;
}

ShardCounts ShardFolderWriter::counts() const {
  ShardCounts sum = manifest_.totals();
  sum.tokens += shard_ ? shard_->tokens() : 0;
  sum.documents += open_.documents;
  sum.text_bytes += open_.text_bytes;
  return sum;
}

void ShardFolderWriter::close_shards() {
  if (shard_) close_shard(index_ + 1, 0);
  if (manifest_.totals().tokens == 0)
    throw Error(Category::data, path_ + ": would hold no token; nothing was written");
}

ShardManifest ShardFolderWriter::finish() {
  close_shards();
  FileSystem& files = FileSystem::posix();
  if (!tokenizer_json_.empty())
    write_atomically(files, path_ + "/" + kTokenizerName, tokenizer_json_);
  files.sync_directory(path_);
  write_atomically(files, path_ + "/" + kManifestName, manifest_.to_json());
  files.sync_directory(parent_directory(path_));
  finished_ = true;
  return manifest_;
}

void ShardFolderWriter::forget_progress() {
  if (options_.job.empty()) return;
  FileSystem::posix().remove_all(path_ + "/" + kProgressName);
  FileSystem::posix().sync_directory(path_);
}

}  // namespace tessera::data
