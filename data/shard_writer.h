// Writes one shard file (docs/formats.md): under a temporary name, which finish() makes durable and
// final. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "data/shard_format.h"

namespace tessera::data {

struct FinishedShard {
  ShardCounts counts;
  std::int64_t bytes = 0;  // of the file
  std::string sha256;
};

class ShardWriter {
 public:
  // Creates PATH.tmp. Error{io} naming it when the system or HDF5 refuses.
  ShardWriter(const std::string& path, const ShardKind& kind,
              std::int64_t chunk_tokens = kChunkTokens);
  // Removes the temporary file unless finished.
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // Adds ids of the current document; Error{data} for an id outside 0..vocab_size - 1.
  void append(std::span<const std::int32_t> ids);
  // Ends the current document, whose text took `text_bytes` bytes.
  void end_document(std::int64_t text_bytes);

  // Tokens so far, and those of the document that has not ended.
  std::int64_t tokens() const;
  std::int64_t open_tokens() const;

  // Writes the index, syncs, renames to PATH. Every document must have ended.
  FinishedShard finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera::data
