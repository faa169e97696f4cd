// Writes a shard folder so that it opens only when it is whole: shards first, the manifest last.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "data/shard_folder.h"
#include "data/shard_progress.h"
#include "data/shard_writer.h"

namespace tessera::data {

struct ShardFolderOptions {
  std::int64_t shard_tokens = kDefaultShardTokens;  // a shard's aim; see begin_document
  std::int64_t chunk_tokens = kChunkTokens;
  bool force = false;  // replace a finished folder
  // Names the inputs and options; with it, shards that an earlier writer of the same job finished
  // are kept, and documents must come with their index. "" = start over always.
  std::string job = {};
};

class ShardFolderWriter {
 public:
  // Takes the folder (created if need be): another writer in it is refused, what an interrupted one
  // left is removed (but for what the same job goes on from), a finished one is refused unless
  // `force`. `tokenizer_json` "" for imported
  // ids. Error{config} for those refusals, Error{io} from the system.
  ShardFolderWriter(const std::string& path, const ShardKind& kind,
                    const std::string& tokenizer_json, const ShardFolderOptions& options = {});
  // Removes what it wrote unless finished; of a job it leaves the shards that its next writer goes
  // on behind.
  ~ShardFolderWriter();
  ShardFolderWriter(const ShardFolderWriter&) = delete;
  ShardFolderWriter& operator=(const ShardFolderWriter&) = delete;

  // A document of `tokens` tokens follows, in any number of appends that add up to it. It starts a
  // new shard when the current one would grow beyond shard_tokens; one longer than a whole shard is
  // cut, each piece counting as a document of its shard. `index`: documents of the job before it,
  // rising. What earlier shards hold of it is passed over.
  void begin_document(std::int64_t tokens, std::int64_t index = 0);
  void append(std::span<const std::int32_t> ids);
  void end_document(std::int64_t text_bytes);

  // Whether shards that were kept hold all of a document: it need not come.
  bool has(std::int64_t index) const { return index < kept_documents_; }
  // Tokens in the shards that were kept.
  std::int64_t kept_tokens() const { return kept_total_; }

  // Tokens and the like so far.
  ShardCounts counts() const;

  // Closes the last shard; the folder still does not open. Error{data} when it holds no token.
  void close_shards();
  // Writes tokenizer and manifest; the folder is complete when it returns.
  ShardManifest finish();
  // Removes the record that a writer of the same job would go on from; after finish().
  void forget_progress();

 private:
  void clean(bool force);
  void next_shard();
  // The shards then hold the job's documents before `document` and `tokens` tokens of it.
  void close_shard(std::int64_t document, std::int64_t tokens);

  struct Lock;
  std::string path_, tokenizer_json_;
  ShardFolderOptions options_;
  std::unique_ptr<Lock> lock_;
  ShardManifest manifest_;
  std::optional<ShardWriter> shard_;
  std::int64_t expected_ = 0;            // tokens of the open document that are still to come
  std::int64_t length_ = 0, index_ = 0;  // of the open document
  std::int64_t skip_ = 0;                // its tokens to come that kept shards hold
  bool skipping_ = false;                // all of it
  std::int64_t kept_documents_ = 0, kept_piece_ = 0, kept_total_ = 0;  // as ShardProgress
  ShardCounts open_;                                                   // of the current shard
  bool finished_ = false;
  bool recorded_ = false;  // in prepare.json
};

}  // namespace tessera::data
