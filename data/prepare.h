// Raw text, or token files of other programs, to shard folders: what `tessera prepare` runs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/import_tokens.h"
#include "data/input_files.h"
#include "data/shard_format.h"
#include "data/split_writer.h"

namespace tessera::data {

struct PrepareProgress {
  std::int64_t bytes_done = 0, bytes_total = 0;  // of the input files, as stored
  ShardCounts counts;
  double seconds = 0;
};

struct PrepareOptions {
  // Files and folders (see find_inputs). All text, or all ids.
  std::vector<std::string> inputs, valid_inputs;
  InputFormat format = InputFormat::automatic;
  // With valid_fraction or valid_inputs: OUT/train and OUT/valid. Else OUT is the shard folder.
  std::string out;
  double valid_fraction = 0;
  std::uint64_t seed = 0;  // of the choice of validation documents
  std::string tokenizer;   // as load_tokenizer takes it; may be empty for ids
  std::string text_key = "text";
  ImportOptions import;      // for ids
  std::int64_t threads = 0;  // that encode; 0: one a processor
  std::int64_t shard_tokens = kDefaultShardTokens;
  bool force = false;                                       // replace finished folders
  std::function<void(const PrepareProgress&)> on_progress;  // called from the calling thread
};

struct PrepareReport {
  std::vector<PreparedPart> parts;
  std::int64_t empty_documents = 0;     // left out
  std::int64_t repaired_documents = 0;  // invalid UTF-8 became U+FFFD
  std::int64_t input_bytes = 0;         // of the files, as stored
  std::int64_t kept_tokens = 0;         // in shards that an earlier, unfinished run had finished
  double seconds = 0;

  ShardCounts totals() const;
};

// The result depends on the inputs and options, not on threads or time. A document's text is
// encoded whole; memory: about 64 MiB of text under way, or the largest document (JSONL line up to
// 256 MiB, .txt up to 1 GiB) if that is more, and some times that for its ids. Whatever ends it
// before its end leaves no folder that opens; killed, the next run of the same job (inputs by path,
// size and time, and options) goes on behind the shards that were finished, to the same bytes.
// Errors as the parts name them: Error{data} for inputs that are not usable, Error{config} for
// options, Error{io}.
PrepareReport prepare(const PrepareOptions& options);

}  // namespace tessera::data
