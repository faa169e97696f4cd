// Reads one shard file, trusting nothing in it: everything but the tokens is checked at opening,
// the tokens chunk by chunk as they are read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "data/shard_format.h"

namespace tessera::data {

class ShardReader {
 public:
  // Error{io} when the file cannot be opened; Error{data} naming it and the finding when it is not
  // an HDF5 file, is truncated or damaged, belongs to another program or a newer version, uses
  // links, filters or storage that the format does not have, or its index contradicts itself.
  explicit ShardReader(const std::string& path);
  ~ShardReader();
  ShardReader(ShardReader&&) noexcept;

  const std::string& path() const;
  const ShardKind& kind() const;
  const ShardCounts& counts() const;
  std::int64_t chunk_tokens() const;  // tokens a chunk, the last one may be shorter
  std::int64_t chunks() const;

  // Tokens of a chunk into `ids` (as many as the chunk has: see chunk_size), each in
  // 0..vocab_size - 1; Error{data} naming shard, chunk and offset when the checksum fails or an id
  // is out of range. Thread-safe (HDF5 calls take turns).
  void read_chunk(std::int64_t chunk, std::span<std::int32_t> ids);
  std::int64_t chunk_size(std::int64_t chunk) const;

  // `values.size()` entries of the index from `first`: starts of documents (documents + 1 of them),
  // and text bytes of documents.
  void read_documents(std::int64_t first, std::span<std::int64_t> values);
  void read_text_bytes(std::int64_t first, std::span<std::int64_t> values);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera::data
