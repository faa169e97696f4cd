// Chooses the kind of tokenizer.
#include <filesystem>

#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"
#include "data/tokenizer.h"
#include "data/tokenizer/bpe_tokenizer.h"
#include "data/tokenizer/bytes_tokenizer.h"
#include "data/tokenizer/tokenizer_json.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{64} << 20;

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer(const std::string& json, const std::string& name) {
  if (static_cast<std::int64_t>(json.size()) > kMaxFileBytes)
    throw Error(Category::data, name + ": a tokenizer.json of " + std::to_string(json.size()) +
                                    " bytes, at most " + std::to_string(kMaxFileBytes) +
                                    " are supported");
  const Json parsed = parse_json(json, name);
  if (parsed.is_object() && parsed.value("type", Json()) == "bytes")
    return std::make_unique<BytesTokenizer>();
  return std::make_unique<BpeTokenizer>(read_tokenizer_json(parsed, name), json, name);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  if (path == "bytes") return std::make_unique<BytesTokenizer>();
  std::error_code ignored;
  std::string file = path;
  if (std::filesystem::is_directory(path, ignored)) {
    file = path + "/tokenizer.json";
    if (!FileSystem::posix().exists(file))
      throw Error(Category::data, path + ": the folder holds no tokenizer.json; name the file");
  }
  return parse_tokenizer(FileSystem::posix().read(file, kMaxFileBytes), file);
}

}  // namespace tessera::data
