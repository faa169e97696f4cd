// Keeps the next batches of a run ready: a background thread reads ahead of training.
//
// Micro-batch m of optimizer step s on replica r of R, with G sequences a step and b a micro-batch:
// each step's positions s G .. (s + 1) G - 1 are cut into R contiguous parts, each part into G / (R
// b) micro-batches. Errors of the thread are rethrown by next(). Depends on (step, rank) alone, so
// a resume needs one integer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/token_source.h"

namespace tessera::data {

struct Batch {
  std::int64_t step = 0;            // from 0
  std::int64_t micro_batch = 0;     // within the step, on this replica
  std::int64_t first_position = 0;  // global position of its first sequence
  std::int64_t sequences = 0;
  std::vector<std::int32_t> ids;      // [sequences, context]
  std::vector<std::int32_t> targets;  // [sequences, context], below 0 = not a target
  std::int64_t step_targets = 0;      // of the whole step, on all replicas
  // Targets of these sequences that were left out with a bad chunk; step_targets counts them.
  std::int64_t lost_targets = 0;
};

struct LoaderOptions {
  std::int64_t global_batch = 1, micro_batch = 1;  // sequences
  std::int64_t replica = 0, replicas = 1;
  std::int64_t first_step = 0;
  std::int64_t last_step = 0;     // one past the last; next() after it is an internal error
  std::int64_t ahead = 4;         // micro-batches kept ready
  std::int64_t first_target = 1;  // token of a sample that is predicted first
};

class Loader {
 public:
  // `source` must outlive the loader.
  Loader(TokenSource& source, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next micro-batch, in order; valid until the following call. Blocks while reading lags;
  // waited_seconds() counts that time.
  const Batch& next();
  double waited_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera::data
