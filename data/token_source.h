// Where tokens come from: the shards of one folder or a weighted blend of folders, seen as numbered
// samples of `context` tokens.
//
// Folder: sample k is tokens [k L, (k + 1) L) of the stream "shards in manifest order"; the tail
// shorter than L is dropped. Blend of weights w: position p of the run draws its source by a fixed
// low-discrepancy rule (data/blend.h: the source whose next sample is due first), each source being
// walked in its own SampleOrder, so that the mixture is exact to one sample at every moment.
//
// With padding the stream is the padded documents instead (data/padded_documents.h); pads have the
// end-of-text id (0 where it is not known).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/file_identity.h"

namespace tessera::data {

struct SourceSpec {
  std::string path;
  double weight = 1;
};

// One shard file, as it was when it was opened.
struct SourceFile {
  std::string path, sha256;  // as its manifest says
  FileIdentity identity;
};

// What one folder of a blend gives to the first positions of a run's order.
struct SourceUse {
  std::string path;
  double share = 1;                // of all samples, by its weight
  std::int64_t epoch_samples = 1;  // samples of one pass over it
  std::int64_t samples = 0;        // given
  double epochs() const {
    return static_cast<double>(samples) / static_cast<double>(epoch_samples);
  }
};

class TokenSource {
 public:
  virtual ~TokenSource() = default;

  // Samples of one pass over the data (blend: the number after which the first source is used up).
  virtual std::int64_t samples() const = 0;
  virtual std::int64_t context() const = 0;
  // Fills ids and targets, `context` each, with the sample at a global position of the run's order.
  // targets = ids where the token may be a target, kPadding (core/targets.h) in padding.
  // Thread-safe.
  virtual void read(std::int64_t position, std::span<std::int32_t> ids,
                    std::span<std::int32_t> targets) = 0;
  // Targets of that sample from its token `first` on: follows from the shards' index alone, so that
  // every rank knows all of a step's. Thread-safe.
  virtual std::int64_t targets(std::int64_t position, std::int64_t first);
  // One past the largest id the shards may hold.
  virtual std::int64_t vocab_size() const = 0;
  // Bytes of text of each id (see Tokenizer::token_bytes).
  virtual const std::vector<std::int32_t>& token_bytes() const = 0;
  // Digest of everything that decides the samples: shard digests in order, context, weights,
  // padding. Equal digests (and seeds) mean equal samples.
  virtual const std::string& digest() const = 0;
  // The tokenizer.json the shards were made with, or "" for imported ids.
  virtual const std::string& tokenizer_json() const = 0;
  virtual std::int32_t end_of_text() const = 0;
  // Tokens in the shards, for the start-up lines.
  virtual std::int64_t tokens() const = 0;
  // What each folder gives to positions 0 .. positions - 1, in the order of the list.
  virtual std::vector<SourceUse> used(std::int64_t) const { return {}; }
  // The shards that are read.
  virtual std::vector<SourceFile> files() const { return {}; }
  // Samples so far of which read() gave no token, because a chunk is bad (SourceOptions::skip_bad).
  virtual std::int64_t lost_samples() const { return 0; }
  // Padding added to them in one pass.
  virtual std::int64_t padding() const { return 0; }
};

struct SourceOptions {
  std::int64_t context = 0;
  std::uint64_t seed = 1;
  bool shuffle = true;  // false: position p is sample p mod samples (evaluation)
  // True: shards that do not open are left out with a warning, and a sample that needs a bad chunk
  // comes as pads without targets (kNoTarget), with a warning and counted in lost_samples(). False:
  // both are Error{data}.
  bool skip_bad = false;
  // Of block models; `block_length` divides the context.
  Padding padding = Padding::none;
  std::int64_t block_length = 0;
};

// Opens and checks every shard (magic, version, sizes, vocabulary, checksums of the index; not
// every token). Error{data} naming the shard; Error{config} for an empty or unusable list.
std::unique_ptr<TokenSource> open_tokens(const std::vector<SourceSpec>& sources,
                                         const SourceOptions& options);

}  // namespace tessera::data
