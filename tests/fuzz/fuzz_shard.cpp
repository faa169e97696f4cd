// A token shard of a stranger: opened, and all of it read.
#include <vector>

#include "data/shard_reader.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace tessera;
  const fuzz::InputFile file(bytes, size);
  return fuzz::attempt([&] {
    data::ShardReader reader(file.path());
    std::vector<std::int32_t> ids;
    for (std::int64_t chunk = 0; chunk < reader.chunks(); ++chunk) {
      ids.resize(static_cast<std::size_t>(reader.chunk_size(chunk)));
      reader.read_chunk(chunk, ids);
      for (const std::int32_t id : ids)
        TESSERA_CHECK(id >= 0 && id < static_cast<std::int64_t>(reader.kind().vocab_size));
    }
  });
}
