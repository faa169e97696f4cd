// A finished shard folder: its manifest (dataset.json), its tokenizer, and the check that its files
// are the ones that were written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/shard_format.h"
#include "data/shard_reader.h"

namespace tessera::data {

struct ManifestShard {
  std::string file;  // a name in the folder
  ShardCounts counts;
  std::int64_t bytes = 0;
  std::string sha256;
};

struct ShardManifest {
  ShardKind kind;
  std::vector<ManifestShard> shards;  // the stream is their tokens in this order

  ShardCounts totals() const;
  std::string to_json() const;
};

// Error{data} naming `name` for anything but a manifest of a known version that agrees with itself
// (from version 2 on with its own digest too).
ShardManifest parse_manifest(const std::string& json, const std::string& name);

struct ShardFolder {
  std::string path;
  ShardManifest manifest;
  std::string tokenizer_json;  // "" for imported ids without a tokenizer

  std::string shard_path(std::size_t index) const {
    return path + "/" + manifest.shards[index].file;
  }
};

// Reads the manifest and the tokenizer; opens no shard. Error{data} when the folder is not a
// finished shard folder, or its tokenizer is not the one the shards were made with.
ShardFolder open_shard_folder(const std::string& path);

// Opens a shard and compares it with the manifest (file size, kind, counts). Error{data} naming it.
ShardReader open_shard(const ShardFolder& folder, std::size_t index);

// Whether `path` is a folder with a manifest.
bool is_shard_folder(const std::string& path);

// All of one shard: its SHA-256, checksums and range of all tokens. Error{data} naming it.
void verify_shard(const ShardFolder& folder, std::size_t index);

// Reads everything: digests of all files, checksums and range of all tokens. Returns one sentence a
// problem, empty when all is well; Error{data} when not even the manifest can be read.
std::vector<std::string> verify_shards(const std::string& path);

// All chunks of one shard; Error{data} at the first bad one.
void verify_tokens(ShardReader& shard);

}  // namespace tessera::data
