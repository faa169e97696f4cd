#include "data/shard_folder.h"

#include <algorithm>
#include <string_view>

#include "core/error.h"
#include "core/file_system.h"
#include "core/integers.h"
#include "core/json.h"
#include "core/sha256.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kManifestLimit = std::int64_t{256} << 20;   // bytes
constexpr std::int64_t kTokenizerLimit = std::int64_t{256} << 20;  // bytes

[[noreturn]] void refuse(const std::string& name, const std::string& finding) {
  throw Error(Category::data, name + ": " + finding);
}

constexpr std::string_view kDigestStart = ",\n \"manifest_sha256\": \"";
constexpr std::string_view kDigestEnd = "\"\n}\n";
constexpr std::size_t kDigestDigits = 64;

// Whether a manifest ends with the digest of what stands before it.
bool is_sealed(std::string_view all) {
  const std::size_t tail = kDigestStart.size() + kDigestDigits + kDigestEnd.size();
  if (all.size() <= tail || !all.ends_with(kDigestEnd)) return false;
  const std::string_view body = all.substr(0, all.size() - tail), rest = all.substr(body.size());
  return rest.starts_with(kDigestStart) &&
         rest.substr(kDigestStart.size(), kDigestDigits) == sha256(body);
}

const Json& field(const Json& object, const char* key, const std::string& name) {
  const auto at = object.is_object() ? object.find(key) : object.end();
  if (at == object.end()) refuse(name, std::string("key \"") + key + "\" is missing");
  return *at;
}

std::string string_field(const Json& object, const char* key, const std::string& name) {
  const Json& value = field(object, key, name);
  if (!value.is_string()) refuse(name, std::string("\"") + key + "\" is not a string");
  return value.get<std::string>();
}

std::int64_t integer_field(const Json& object, const char* key, std::int64_t low, std::int64_t high,
                           const std::string& name) {
  const Json& value = field(object, key, name);
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX));
  const std::int64_t number = fits ? value.get<std::int64_t>() : 0;
  if (!fits || number < low || number > high)
    refuse(name, std::string("\"") + key + "\" is " + value.dump() + ", expected an integer in " +
                     std::to_string(low) + ".." + std::to_string(high));
  return number;
}

bool is_digest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

ManifestShard parse_shard(const Json& entry, const std::string& name) {
  ManifestShard shard;
  shard.file = string_field(entry, "file", name);
  if (!is_shard_folder_name(shard.file) || !shard.file.ends_with(".h5"))
    refuse(name, "shard file " +
                     Json(shard.file).dump(-1, ' ', true, Json::error_handler_t::replace) +
                     " is not named shard-NNNNN.h5");
  const std::string where = name + ": " + shard.file;
  shard.counts.tokens = integer_field(entry, "tokens", 0, INT64_MAX, where);
  shard.counts.documents = integer_field(entry, "documents", 0, INT64_MAX, where);
  shard.counts.text_bytes = integer_field(entry, "text_bytes", 0, INT64_MAX, where);
  shard.bytes = integer_field(entry, "bytes", 1, INT64_MAX, where);
  shard.sha256 = string_field(entry, "sha256", where);
  if (!is_digest(shard.sha256)) refuse(where, "\"sha256\" is not a SHA-256 in lower-case digits");
  return shard;
}

Json counts_json(const ShardCounts& counts) {
  return {{"tokens", counts.tokens},
          {"documents", counts.documents},
          {"text_bytes", counts.text_bytes}};
}

}  // namespace

ShardCounts ShardManifest::totals() const {
  ShardCounts sum;
  for (const ManifestShard& shard : shards) {
    sum.tokens = checked_add(sum.tokens, shard.counts.tokens, "tokens of all shards");
    sum.documents = checked_add(sum.documents, shard.counts.documents, "documents of all shards");
    sum.text_bytes = checked_add(sum.text_bytes, shard.counts.text_bytes, "text of all shards");
  }
  return sum;
}

std::string ShardManifest::to_json() const {
  const ShardCounts sum = totals();
  OrderedJson list = OrderedJson::array();
  for (const ManifestShard& s : shards)
    list.push_back({{"file", s.file},
                    {"tokens", s.counts.tokens},
                    {"documents", s.counts.documents},
                    {"text_bytes", s.counts.text_bytes},
                    {"bytes", s.bytes},
                    {"sha256", s.sha256}});
  const OrderedJson all = {{"format", kShardFormat},
                           {"version", kManifestVersion},
                           {"vocab_size", kind.vocab_size},
                           {"end_of_text", kind.end_of_text},
                           {"tokenizer", kind.tokenizer_digest},
                           {"tokens", sum.tokens},
                           {"documents", sum.documents},
                           {"text_bytes", sum.text_bytes},
                           {"shards", list}};
  std::string body = all.dump(1);
  TESSERA_CHECK(body.ends_with("\n}"));
  body.resize(body.size() - 2);
  const std::string digest = sha256(body);
  return body.append(kDigestStart) + digest + std::string(kDigestEnd);
}

ShardManifest parse_manifest(const std::string& json, const std::string& name) {
  const Json all = parse_json(json, name);
  if (string_field(all, "format", name) != kShardFormat)
    refuse(name, std::string("\"format\" is not \"") + kShardFormat + "\"");
  const std::int64_t version = integer_field(all, "version", 1, INT64_MAX, name);
  if (version > kManifestVersion)
    refuse(name, "version " + std::to_string(version) + " is newer than the version " +
                     std::to_string(kManifestVersion) +
                     " that this program reads: use a newer tessera");
  if (version >= 2 && !is_sealed(json))
    refuse(name, "its own SHA-256 does not match; the file is truncated or was changed");
  ShardManifest manifest;
  manifest.kind.vocab_size = integer_field(all, "vocab_size", 1, kLargestVocab, name);
  manifest.kind.end_of_text = static_cast<std::int32_t>(
      integer_field(all, "end_of_text", -1, manifest.kind.vocab_size - 1, name));
  manifest.kind.tokenizer_digest = string_field(all, "tokenizer", name);
  if (!manifest.kind.tokenizer_digest.empty() && !is_digest(manifest.kind.tokenizer_digest))
    refuse(name, "\"tokenizer\" is neither empty nor a SHA-256 in lower-case digits");
  const Json& shards = field(all, "shards", name);
  if (!shards.is_array() || shards.empty()) refuse(name, "\"shards\" is not a list of shards");
  std::vector<std::string> names;
  for (const Json& entry : shards) {
    manifest.shards.push_back(parse_shard(entry, name));
    names.push_back(manifest.shards.back().file);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) refuse(name, *twice + " is listed twice");
  const Json sums = counts_json(manifest.totals());
  for (const char* key : {"tokens", "documents", "text_bytes"})
    if (integer_field(all, key, 0, INT64_MAX, name) != sums[key].get<std::int64_t>())
      refuse(name,
             std::string("\"") + key + "\" is not the sum over the shards, " + sums[key].dump());
  return manifest;
}

bool is_shard_folder(const std::string& path) {
  return FileSystem::posix().exists(path + "/" + kManifestName);
}

ShardFolder open_shard_folder(const std::string& path) {
  FileSystem& files = FileSystem::posix();
  if (!files.exists(path))
    throw Error(Category::data, path + ": no such shard folder; `tessera prepare` makes one");
  const std::string manifest_path = path + "/" + kManifestName;
  if (!files.exists(manifest_path)) {
    std::string hint = "prepare it again";
    for (const char* part : {"train", "valid"})
      if (is_shard_folder(path + "/" + part))
        hint = "name " + path + "/train or " + path + "/valid";
    refuse(path, std::string("is not a finished shard folder (no ") + kManifestName + "): " + hint);
  }
  ShardFolder folder;
  folder.path = path;
  folder.manifest = parse_manifest(files.read(manifest_path, kManifestLimit), manifest_path);
  const std::string& digest = folder.manifest.kind.tokenizer_digest;
  const std::string tokenizer_path = path + "/" + kTokenizerName;
  if (!digest.empty()) {
    if (!files.exists(tokenizer_path))
      refuse(tokenizer_path, "is missing, but the manifest names a tokenizer");
    folder.tokenizer_json = files.read(tokenizer_path, kTokenizerLimit);
    if (sha256(folder.tokenizer_json) != digest)
      refuse(tokenizer_path, "is not the tokenizer that the shards were made with (SHA-256 " +
                                 digest + " expected)");
  }
  return folder;
}

ShardReader open_shard(const ShardFolder& folder, std::size_t index) {
  const ManifestShard& expected = folder.manifest.shards[index];
  const std::string path = folder.shard_path(index);
  FileSystem& files = FileSystem::posix();
  if (!files.exists(path)) refuse(path, "is missing, but the manifest lists it");
  if (const std::int64_t bytes = files.size(path); bytes != expected.bytes)
    refuse(path, "has " + std::to_string(bytes) + " bytes, the manifest says " +
                     std::to_string(expected.bytes) + ": it is truncated or was changed");
  ShardReader shard(path);
  if (!(shard.kind() == folder.manifest.kind))
    refuse(path, "its vocabulary, end-of-text id or tokenizer is not the manifest's");
  if (!(shard.counts() == expected.counts))
    refuse(path, "holds " + std::to_string(shard.counts().tokens) + " tokens in " +
                     std::to_string(shard.counts().documents) + " documents, the manifest says " +
                     std::to_string(expected.counts.tokens) + " in " +
                     std::to_string(expected.counts.documents));
  return shard;
}

void verify_tokens(ShardReader& shard) {
  std::vector<std::int32_t> ids;
  for (std::int64_t chunk = 0; chunk < shard.chunks(); ++chunk) {
    ids.resize(static_cast<std::size_t>(shard.chunk_size(chunk)));
    shard.read_chunk(chunk, ids);
  }
}

void verify_shard(const ShardFolder& folder, std::size_t index) {
  ShardReader shard = open_shard(folder, index);
  verify_tokens(shard);
  if (sha256_file(shard.path()) != folder.manifest.shards[index].sha256)
    refuse(shard.path(), "its SHA-256 is not the manifest's: it was changed");
}

std::vector<std::string> verify_shards(const std::string& path) {
  const ShardFolder folder = open_shard_folder(path);
  std::vector<std::string> problems;
  for (std::size_t i = 0; i < folder.manifest.shards.size(); ++i) {
    try {
      verify_shard(folder, i);
    } catch (const Error& problem) {
      problems.push_back(problem.what());
    }
  }
  return problems;
}

}  // namespace tessera::data
