// Where prepared documents go: one shard folder, or OUT/train and OUT/valid.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/shard_folder_writer.h"

namespace tessera::data {

struct SplitOptions {
  std::string out;
  double valid_fraction = 0;  // of the documents, drawn by a hash of (seed, index)
  bool valid_inputs = false;  // some inputs are the validation part
  std::uint64_t seed = 0;
  ShardFolderOptions folder;
};

struct PreparedPart {
  std::string path;
  ShardCounts counts;
  std::int64_t shards = 0;
  std::int64_t bytes = 0;  // of the shard files
};

class SplitWriter {
 public:
  // Error{config} for options that exclude each other and as ShardFolderWriter.
  SplitWriter(const SplitOptions& options, const ShardKind& kind,
              const std::string& tokenizer_json);

  // The folder of a document: its index in the inputs, and whether its file is a validation input.
  ShardFolderWriter& folder_of(std::int64_t index, bool valid_input);
  // Whether an earlier run of the same job has finished the shards that hold it. Thread-safe.
  bool has(std::int64_t index, bool valid_input);
  std::int64_t kept_tokens() const;
  ShardCounts counts() const;

  // Finishes all folders, the manifests after all shards. Error{data} for one without tokens.
  std::vector<PreparedPart> finish();

 private:
  SplitOptions options_;
  std::string train_path_, valid_path_;
  std::optional<ShardFolderWriter> train_, valid_;
};

}  // namespace tessera::data
