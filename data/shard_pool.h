// Random access to the tokens of many shards with few open files and little memory: the least
// recently used handles are closed, the most recently used chunks stay decoded.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/file_identity.h"
#include "data/shard_folder.h"

namespace tessera::data {

// A chunk of tokens that fails its checksum or holds ids outside the vocabulary; others of the
// shard may be well.
class BadChunk : public Error {
 public:
  using Error::Error;
};

class ShardPool {
 public:
  // Opens and checks every shard once. With `skip_bad` shards that fail are left out with a
  // warning; Error{data} when none is left. Returns the shards kept of each folder, as manifest
  // indices.
  std::vector<std::size_t> add(std::shared_ptr<const ShardFolder> folder, bool skip_bad);

  // Shards in the order added.
  std::size_t size() const { return shards_.size(); }
  // Tokens [begin, begin + ids.size()) of a shard. Thread-safe. BadChunk for a chunk that fails its
  // checks; Error{data} for a shard that is not the file that was opened first any more.
  void read(std::size_t shard, std::int64_t begin, std::span<std::int32_t> ids);

  const std::string& path(std::size_t shard) const { return shards_[shard].path; }
  const FileIdentity& identity(std::size_t shard) const { return shards_[shard].identity; }

  // Documents of a shard, and entries of its index (ShardReader::read_documents). Thread-safe.
  std::int64_t documents(std::size_t shard);
  void read_documents(std::size_t shard, std::int64_t first, std::span<std::int64_t> offsets);

  static constexpr std::size_t kOpenShards = 32;
  static constexpr std::size_t kChunks = 16;

 private:
  struct Shard {
    std::shared_ptr<const ShardFolder> folder;
    std::size_t index = 0;  // in the folder's manifest
    std::string path;
    FileIdentity identity;  // at the first opening
    std::unique_ptr<ShardReader> reader;
    std::int64_t used = 0;  // time of last use; 0: closed
  };
  struct Chunk {
    std::size_t shard = 0;
    std::int64_t number = -1;
    std::int64_t used = 0;
    std::vector<std::int32_t> ids;
  };

  ShardReader& open(std::size_t shard);
  void require_unchanged(const Shard& shard) const;
  const std::vector<std::int32_t>& chunk(std::size_t shard, std::int64_t number,
                                         ShardReader& reader);

  std::mutex mutex_;
  std::vector<Shard> shards_;
  std::size_t open_ = 0;
  std::vector<Chunk> chunks_ = std::vector<Chunk>(kChunks);
  std::int64_t clock_ = 0;
};

}  // namespace tessera::data
