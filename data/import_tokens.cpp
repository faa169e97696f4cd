#include "data/import_tokens.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/integers.h"
#include "data/flat_file.h"
#include "data/id_array.h"
#include "data/megatron_file.h"

namespace tessera::data {

std::unique_ptr<TokenFile> open_token_file(const InputFile& file, const ImportOptions& options) {
  if (file.format == InputFormat::megatron) return open_megatron(file.path, options);
  TESSERA_CHECK(file.format == InputFormat::flat);
  return open_flat(file.path, options);
}

void copy_ids(const IdArray& ids, std::int64_t first, std::int64_t count, std::int64_t vocab_size,
              DocumentSink& sink) {
  constexpr std::int64_t kBlock = 65536;
  std::vector<std::int32_t> block;
  for (std::int64_t done = 0; done < count; done += kBlock) {
    block.resize(static_cast<std::size_t>(std::min(kBlock, count - done)));
    ids.read(first + done, block, vocab_size);
    sink.append(block);
  }
}

}  // namespace tessera::data
