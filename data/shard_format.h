// Names and numbers of token shards on disk; docs/formats.md, "Token shards", is the specification.
// Never change a value here: add a version.
#pragma once

#include <cstdint>
#include <string>

namespace tessera::data {

inline constexpr const char* kShardFormat = "tessera-tokens";
inline constexpr std::int64_t kShardVersion = 1;
// Of the manifest: 2 ends with a digest of itself.
inline constexpr std::int64_t kManifestVersion = 2;

// A shard folder.
inline constexpr const char* kManifestName = "dataset.json";
inline constexpr const char* kTokenizerName = "tokenizer.json";
inline constexpr const char* kProgressName = "prepare.json";  // while it is being written
inline constexpr const char* kProgressFormat = "tessera-prepare";
std::string shard_name(std::int64_t number);  // "shard-00012.h5"
// Whether a name is one that a shard folder's writer makes (manifest, tokenizer, shard), finished
// or temporary.
bool is_shard_folder_name(const std::string& name);

// Datasets and root attributes of a shard file.
inline constexpr const char* kTokens = "tokens";
inline constexpr const char* kDocuments = "documents";
inline constexpr const char* kTextBytes = "text_bytes";
inline constexpr const char* kAttributeFormat = "format";
inline constexpr const char* kAttributeVersion = "format_version";
inline constexpr const char* kAttributeVocab = "vocab_size";
inline constexpr const char* kAttributeTokenizer = "tokenizer_digest";
inline constexpr const char* kAttributeEndOfText = "end_of_text";

inline constexpr std::int64_t kChunkTokens = 8192;  // a sample of 2048 reads 1.2 of them
inline constexpr std::int64_t kIndexChunk = 8192;   // entries, or fewer where there are fewer
// A reader refuses larger chunks: HDF5 allocates whole ones.
inline constexpr std::int64_t kLargestChunk = std::int64_t{1} << 22;  // entries
inline constexpr std::int64_t kLargestVocab = std::int64_t{1} << 30;
inline constexpr std::int64_t kDefaultShardTokens = std::int64_t{64} << 20;

// What all shards of a folder share.
struct ShardKind {
  std::int64_t vocab_size = 0;    // one past the largest id
  std::int32_t end_of_text = -1;  // -1: unknown (imported ids)
  std::string tokenizer_digest;   // SHA-256 of tokenizer.json, "" for imported ids without one

  // Bytes a token takes in `tokens`.
  std::int64_t token_size() const { return vocab_size <= 65536 ? 2 : 4; }
  bool operator==(const ShardKind&) const = default;
};

// What one shard holds.
struct ShardCounts {
  std::int64_t tokens = 0, documents = 0;
  std::int64_t text_bytes = 0;  // UTF-8 bytes of the documents' text
  bool operator==(const ShardCounts&) const = default;
};

}  // namespace tessera::data
