// How long the documents of a shard folder are: from its index alone, in bounded memory.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "data/shard_folder.h"

namespace tessera::data {

class DocumentStatistics {
 public:
  // Adds a document of `tokens` tokens (its end-of-text included).
  void add(std::int64_t tokens);
  // Adds all of a shard's.
  void add(ShardReader& shard);

  std::int64_t documents() const { return documents_; }
  std::int64_t tokens() const { return tokens_; }
  double mean() const;
  // The length that a share (0..1) of the documents does not exceed: the ceil(share x documents)-th
  // shortest, exactly. 0 without documents.
  std::int64_t quantile(double share) const;

 private:
  static constexpr std::int64_t kCounted = std::int64_t{1} << 18;  // lengths counted in a table
  std::int64_t documents_ = 0, tokens_ = 0;
  std::vector<std::int64_t> counts_;             // of lengths below kCounted
  std::map<std::int64_t, std::int64_t> longer_;  // lengths and their counts
};

}  // namespace tessera::data
