// How far an unfinished `prepare` came: prepare.json beside the shards, replaced whenever a shard
// is finished, removed at the end. The next run of the same job keeps those shards and goes on
// behind them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/shard_folder.h"

namespace tessera::data {

struct ShardProgress {
  std::string job;  // says which inputs and options; another job's progress is of no use
  ShardKind kind;
  std::vector<ManifestShard> shards;
  // Where in the inputs the shards end: the first document that is not whole in them, and how many
  // of its tokens are.
  std::int64_t document = 0, tokens = 0;

  std::string to_json() const;
};

// What FOLDER's prepare.json says; none when there is none or it is damaged.
std::optional<ShardProgress> read_progress(const std::string& folder);

// The progress of `job` in FOLDER, when its shards are still what they were (size and SHA-256).
std::optional<ShardProgress> find_progress(const std::string& folder, const std::string& job,
                                           const ShardKind& kind);

}  // namespace tessera::data
