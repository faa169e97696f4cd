#include "data/preview.h"

#include <algorithm>

#include "data/tokenizer.h"

namespace tessera::data {
namespace {

// Tokens [begin, end) of a shard, by whole chunks.
std::vector<std::int32_t> read_range(ShardReader& shard, std::int64_t begin, std::int64_t end) {
  std::vector<std::int32_t> ids, chunk;
  while (begin < end) {
    const std::int64_t number = begin / shard.chunk_tokens();
    chunk.resize(static_cast<std::size_t>(shard.chunk_size(number)));
    shard.read_chunk(number, chunk);
    const std::int64_t start = number * shard.chunk_tokens();
    const std::int64_t stop = std::min(end, start + shard.chunk_size(number));
    ids.insert(ids.end(), chunk.begin() + (begin - start), chunk.begin() + (stop - start));
    begin = stop;
  }
  return ids;
}

}  // namespace

std::vector<DocumentPreview> preview_documents(const ShardFolder& folder, std::int64_t documents,
                                               std::int64_t tokens) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (!folder.tokenizer_json.empty())
    tokenizer = parse_tokenizer(folder.tokenizer_json, folder.path + "/" + kTokenizerName);
  std::vector<DocumentPreview> previews;
  const auto missing = [&] { return documents - static_cast<std::int64_t>(previews.size()); };
  for (std::size_t i = 0; i < folder.manifest.shards.size() && missing() > 0; ++i) {
    ShardReader shard = open_shard(folder, i);
    const std::int64_t count = std::min(missing(), shard.counts().documents);
    std::vector<std::int64_t> starts(static_cast<std::size_t>(count) + 1);
    shard.read_documents(0, starts);
    for (std::size_t d = 0; d + 1 < starts.size(); ++d) {
      DocumentPreview preview;
      preview.shard = folder.manifest.shards[i].file;
      preview.tokens = starts[d + 1] - starts[d];
      preview.ids = read_range(shard, starts[d], starts[d] + std::min(tokens, preview.tokens));
      if (tokenizer) preview.text = tokenizer->decode(preview.ids);
      previews.push_back(std::move(preview));
    }
  }
  return previews;
}

}  // namespace tessera::data
