#include "tests/data/tokenizer_support.h"

#include <map>
#include <stdexcept>

#include <zlib.h>

#include "core/file_system.h"

namespace tessera::data {

std::string fixture(const std::string& name) {
  const std::string path = std::string(TESSERA_SOURCE_DIR) + "/tests/data/fixtures/" + name;
  gzFile file = gzopen(path.c_str(), "rb");
  if (!file) throw std::runtime_error("cannot open " + path);
  std::string text;
  char block[1 << 16];
  int count = 0;
  while ((count = gzread(file, block, sizeof(block))) > 0)
    text.append(block, static_cast<std::size_t>(count));
  gzclose(file);
  if (count < 0) throw std::runtime_error("cannot unpack " + path);
  return text;
}

Json sample_tokenizer() {
  const std::string path = std::string(TESSERA_SOURCE_DIR) + "/data/sample/tokenizer.json";
  return parse_json(FileSystem::posix().read(path, 1 << 24), path);
}

const Tokenizer& fixture_tokenizer(std::string name) {
  static std::map<std::string, std::unique_ptr<Tokenizer>> made;
  auto& tokenizer = made[name];
  if (!tokenizer) tokenizer = parse_tokenizer(fixture(name + "/tokenizer.json.gz"), name);
  return *tokenizer;
}

std::unique_ptr<Tokenizer> tokenizer_of(const Json& json) {
  return parse_tokenizer(json.dump(), "tokenizer.json");
}

}  // namespace tessera::data
