#include "data/shard_progress.h"

#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"
#include "core/sha256.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kProgressLimit = std::int64_t{256} << 20;  // bytes

}  // namespace

std::string ShardProgress::to_json() const {
  // The manifest of the shards so far, which its own reader checks, inside.
  const ShardManifest manifest{kind, shards};
  const OrderedJson all = {
      {"format", kProgressFormat}, {"version", kShardVersion}, {"job", job},
      {"document", document},      {"tokens", tokens},         {"manifest", manifest.to_json()}};
  return all.dump(1) + "\n";
}

std::optional<ShardProgress> read_progress(const std::string& folder) {
  FileSystem& files = FileSystem::posix();
  const std::string path = folder + "/" + kProgressName;
  if (!files.exists(path)) return std::nullopt;
  try {
    const Json all = parse_json(files.read(path, kProgressLimit), path);
    if (all.at("format") != kProgressFormat || all.at("version") != kShardVersion)
      return std::nullopt;
    const ShardManifest manifest = parse_manifest(all.at("manifest").get<std::string>(), path);
    ShardProgress progress{all.at("job").get<std::string>(), manifest.kind, manifest.shards,
                           all.at("document").get<std::int64_t>(),
                           all.at("tokens").get<std::int64_t>()};
    if (progress.document < 0 || progress.tokens < 0) return std::nullopt;
    return progress;
  } catch (const Error&) {
    return std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

std::optional<ShardProgress> find_progress(const std::string& folder, const std::string& job,
                                           const ShardKind& kind) {
  if (job.empty()) return std::nullopt;
  const auto progress = read_progress(folder);
  if (!progress || progress->job != job || !(progress->kind == kind)) return std::nullopt;
  FileSystem& files = FileSystem::posix();
  for (const ManifestShard& shard : progress->shards) {
    const std::string path = folder + "/" + shard.file;
    if (!files.exists(path) || files.size(path) != shard.bytes || sha256_file(path) != shard.sha256)
      return std::nullopt;
  }
  return progress;
}

}  // namespace tessera::data
