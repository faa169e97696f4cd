// Writes a shard folder so that it opens only when it is whole: shards first, the manifest last.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "data/shard_folder.h"
#include "data/shard_writer.h"

namespace tessera::data {

struct ShardFolderOptions {
  std::int64_t shard_tokens = kDefaultShardTokens;  // a shard's aim; see begin_document
  std::int64_t chunk_tokens = kChunkTokens;
  bool force = false;  // replace a finished folder
};

class ShardFolderWriter {
 public:
  // Takes the folder (created if need be): another writer in it is refused, what an interrupted one
  // left is removed, a finished one is refused unless `force`. `tokenizer_json` "" for imported
  // ids. Error{config} for those refusals, Error{io} from the system.
  ShardFolderWriter(const std::string& path, const ShardKind& kind,
                    const std::string& tokenizer_json, const ShardFolderOptions& options = {});
  // Removes what it wrote unless finished.
  ~ShardFolderWriter();
  ShardFolderWriter(const ShardFolderWriter&) = delete;
  ShardFolderWriter& operator=(const ShardFolderWriter&) = delete;

  // A document of `tokens` tokens follows, in any number of appends that add up to it. It starts a
  // new shard when the current one would grow beyond shard_tokens; one longer than a whole shard is
  // cut, each piece counting as a document of its shard.
  void begin_document(std::int64_t tokens);
  void append(std::span<const std::int32_t> ids);
  void end_document(std::int64_t text_bytes);

  // Tokens and the like so far.
  ShardCounts counts() const;

  // Closes the last shard; the folder still does not open. Error{data} when it holds no token.
  void close_shards();
  // Writes tokenizer and manifest; the folder is complete when it returns.
  ShardManifest finish();

 private:
  void clean(bool force);
  void next_shard();
  void close_shard();

  struct Lock;
  std::string path_, tokenizer_json_;
  ShardFolderOptions options_;
  std::unique_ptr<Lock> lock_;
  ShardManifest manifest_;
  std::optional<ShardWriter> shard_;
  std::int64_t expected_ = 0;  // tokens of the open document that are still to come
  ShardCounts open_;           // of the current shard
  bool finished_ = false;
};

}  // namespace tessera::data
