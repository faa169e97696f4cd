#include "data/shard_pool.h"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "core/error.h"

namespace tessera::data {

std::vector<std::size_t> ShardPool::add(std::shared_ptr<const ShardFolder> folder, bool skip_bad) {
  const std::lock_guard guard(mutex_);
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < folder->manifest.shards.size(); ++i) {
    try {
      shards_.push_back({folder, i, folder->shard_path(i), {}, nullptr, 0});
      open(shards_.size() - 1);
      shards_.back().identity = identify_file(shards_.back().path);
      kept.push_back(i);
    } catch (const Error& problem) {
      if (shards_.back().reader) --open_;
      shards_.pop_back();
      if (!skip_bad) throw;
      spdlog::warn("shard left out: {}", problem.what());
    }
  }
  if (kept.empty()) throw Error(Category::data, folder->path + ": none of its shards can be read");
  return kept;
}

ShardReader& ShardPool::open(std::size_t shard) {
  Shard& wanted = shards_[shard];
  if (!wanted.reader) {
    if (open_ == kOpenShards) {
      const auto oldest =
          std::min_element(shards_.begin(), shards_.end(), [](const Shard& a, const Shard& b) {
            return (a.reader ? a.used : INT64_MAX) < (b.reader ? b.used : INT64_MAX);
          });
      oldest->reader.reset();
      --open_;
    }
    wanted.reader = std::make_unique<ShardReader>(open_shard(*wanted.folder, wanted.index));
    ++open_;
    if (wanted.identity.bytes > 0) require_unchanged(wanted);
  }
  wanted.used = ++clock_;
  return *wanted.reader;
}

void ShardPool::require_unchanged(const Shard& shard) const {
  if (identify_file(shard.path) == shard.identity) return;
  throw Error(Category::data,
              shard.path +
                  ": was changed or replaced while it was being read: restore it and "
                  "resume");
}

const std::vector<std::int32_t>& ShardPool::chunk(std::size_t shard, std::int64_t number,
                                                  ShardReader& reader) {
  Chunk* oldest = &chunks_.front();
  for (Chunk& c : chunks_) {
    if (c.number == number && c.shard == shard) {
      c.used = ++clock_;
      return c.ids;
    }
    if (c.used < oldest->used) oldest = &c;
  }
  oldest->number = -1;  // in case reading throws
  oldest->ids.resize(static_cast<std::size_t>(reader.chunk_size(number)));
  require_unchanged(shards_[shard]);
  try {
    reader.read_chunk(number, oldest->ids);
  } catch (const Error& problem) {
    throw BadChunk(problem.category(), problem.what());
  }
  oldest->shard = shard;
  oldest->number = number;
  oldest->used = ++clock_;
  return oldest->ids;
}

std::int64_t ShardPool::documents(std::size_t shard) {
  const std::lock_guard guard(mutex_);
  return open(shard).counts().documents;
}

void ShardPool::read_documents(std::size_t shard, std::int64_t first,
                               std::span<std::int64_t> offsets) {
  const std::lock_guard guard(mutex_);
  open(shard).read_documents(first, offsets);
}

void ShardPool::read(std::size_t shard, std::int64_t begin, std::span<std::int32_t> ids) {
  const std::lock_guard guard(mutex_);
  ShardReader& reader = open(shard);
  TESSERA_CHECK(begin >= 0 &&
                static_cast<std::int64_t>(ids.size()) <= reader.counts().tokens - begin);
  while (!ids.empty()) {
    const std::int64_t number = begin / reader.chunk_tokens();
    const std::vector<std::int32_t>& tokens = chunk(shard, number, reader);
    const auto offset = static_cast<std::size_t>(begin - number * reader.chunk_tokens());
    const std::size_t count = std::min(ids.size(), tokens.size() - offset);
    std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(offset), count, ids.begin());
    ids = ids.subspan(count);
    begin += static_cast<std::int64_t>(count);
  }
}

}  // namespace tessera::data
