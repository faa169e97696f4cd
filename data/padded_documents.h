// The documents of one folder's shards with padding around each, for block models:
//
//   [a x pad] document [r x pad]     r = -(a + length) mod block
//
// so that every document starts in a block of its own and ends one. a is 0, or drawn once a
// document, uniformly from 0..block - 1, by (seed, shard, document): the same in every epoch. A
// document is what the shards' index says, its end-of-text included; an empty one takes no room.
//
// Memory is a number every kGroup documents and a few decoded groups, whatever the corpus.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "data/shard_pool.h"

namespace tessera::data {

struct PaddingOptions {
  std::int64_t block = 0;     // tokens a block
  bool random_first = false;  // draw a; else it is 0
  std::uint64_t seed = 0;
};

class PaddedDocuments {
 public:
  // A run of the padded stream: tokens of a shard, or padding.
  struct Piece {
    std::size_t shard = 0;
    std::int64_t offset = 0;  // of its first token in the shard; -1: padding
    std::int64_t count = 0;
    bool padding() const { return offset < 0; }
  };

  // Reads the index of shards first .. first + numbers.size() - 1 of the pool; `numbers` are theirs
  // in the folder's manifest.
  PaddedDocuments(ShardPool& pool, std::size_t first, const std::vector<std::size_t>& numbers,
                  const PaddingOptions& options);

  // Tokens and padding together.
  std::int64_t size() const { return size_; }
  // The pieces of [begin, end), in order. Thread-safe.
  std::vector<Piece> pieces(std::int64_t begin, std::int64_t end);

  static constexpr std::int64_t kGroup = 8192;  // documents
  static constexpr std::size_t kGroups = 64;    // that stay decoded

 private:
  struct Group {
    std::size_t shard = 0;      // from the first
    std::int64_t document = 0;  // its first, within the shard
    std::int64_t documents = 0;
    std::int64_t begin = 0;  // in the padded stream
  };
  struct Decoded {
    std::size_t group = 0;
    std::vector<std::int64_t> offsets;  // in the shard, documents + 1
    std::vector<std::int64_t> places;   // in the padded stream, documents + 1
  };
  using Handle = std::shared_ptr<const Decoded>;

  std::int64_t left_padding(std::size_t shard, std::int64_t document) const;
  Decoded decode(std::size_t number) const;
  Handle group(std::size_t number);

  ShardPool& pool_;
  std::size_t first_;
  std::vector<std::size_t> numbers_;
  PaddingOptions options_;
  std::vector<Group> groups_;
  std::int64_t size_ = 0;
  std::mutex mutex_;
  std::list<Handle> recent_;  // the last used one first
};

}  // namespace tessera::data
