// The first documents of a shard folder, for people who want to see what is in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/shard_folder.h"

namespace tessera::data {

struct DocumentPreview {
  std::string shard;              // its file
  std::int64_t tokens = 0;        // of the whole document
  std::vector<std::int32_t> ids;  // the first ones
  std::string text;               // of those; "" where the folder has no tokenizer
};

// Up to `documents` documents from the folder's start, up to `tokens` ids of each. Error{data} as
// open_shard and ShardReader.
std::vector<DocumentPreview> preview_documents(const ShardFolder& folder, std::int64_t documents,
                                               std::int64_t tokens);

}  // namespace tessera::data
