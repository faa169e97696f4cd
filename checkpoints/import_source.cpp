#include "checkpoints/import_source.h"

#include <algorithm>
#include <set>

#include "checkpoints/export_weights.h"
#include "checkpoints/hugging_face.h"
#include "checkpoints/names.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera::checkpoints {
namespace {

constexpr std::int64_t kMaxIndexBytes = std::int64_t{16} << 20;
constexpr std::int64_t kMaxTokenizerBytes = std::int64_t{64} << 20;
constexpr std::size_t kMostNamed = 4;

// Shards of one are whole; those of several need an index.
bool lacks_others(const std::string& name) {
  return is_shard(name) && !name.ends_with("-of-00001.safetensors");
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t extent : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

// "a, b and 3 more"
std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMostNamed); ++i)
    text += (i ? ", " : "") + names[i];
  if (names.size() > kMostNamed)
    text += " and " + std::to_string(names.size() - kMostNamed) + " more";
  return text;
}

}  // namespace

ImportSource::ImportSource(const std::string& folder) : folder_(without_slashes(folder)) {
  FileSystem& files = FileSystem::posix();
  std::vector<std::string> found;
  for (const std::string& name : files.list(folder_))
    if (name.ends_with(".safetensors")) found.push_back(name);
  const bool single = std::find(found.begin(), found.end(), kModelFile) != found.end();
  const std::string index_file = folder_ + "/" + kShardIndexFile;
  const bool sharded = files.exists(index_file);
  if (single && sharded)
    throw Error(Category::data, folder_ + ": holds both " + kModelFile + " and " + kShardIndexFile +
                                    ", perhaps of two models; remove the one that is not meant");
  if (sharded) {
    open_shards(index_file);
    return;
  }
  if (single) found = {kModelFile};
  if (const auto shard = std::find_if(found.begin(), found.end(), lacks_others);
      shard != found.end())
    throw Error(Category::data, folder_ + ": holds " + *shard + ", one shard of several, but no " +
                                    kShardIndexFile + "; it was not written or copied to its end");
  if (found.size() != 1)
    throw Error(Category::data, folder_ + ": holds neither " + kModelFile + " nor " +
                                    kShardIndexFile +
                                    "; files of other formats must be converted to safetensors");
  open(found[0]);
}

void ImportSource::open_shards(const std::string& index_file) {
  FileSystem& files = FileSystem::posix();
  const Json json = parse_json(files.read(index_file, kMaxIndexBytes), index_file);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object())
    throw Error(Category::data, index_file + ": key \"weight_map\" is not an object");
  if (map->empty()) throw Error(Category::data, index_file + ": \"weight_map\" names no tensor");
  std::map<std::string, std::string> shard_of;
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !is_plain_name(shard.get_ref<const std::string&>()))
      throw Error(Category::data,
                  index_file + ": " + shown(shard.dump()) + " is not a plain file name");
    shard_of[tensor] = shard.get<std::string>();
    shards.insert(shard.get<std::string>());
  }
  if (static_cast<std::int64_t>(shards.size()) > kMostShards)
    throw Error(Category::data, index_file + ": names " + std::to_string(shards.size()) +
                                    " files, at most " + std::to_string(kMostShards) +
                                    " are allowed");
  for (const std::string& shard : shards)
    if (!files.exists(folder_ + "/" + shard))
      throw Error(Category::data, folder_ + "/" + shard + ": is missing, but " + kShardIndexFile +
                                      " places tensors in it");
  files_.reserve(shards.size());  // entries point into them
  for (const std::string& shard : shards) {
    open(shard);
    for (const TensorEntry& entry : files_.back().tensors())
      if (const auto found = shard_of.find(entry.name);
          found == shard_of.end() || found->second != shard)
        throw Error(Category::data, index_file + ": does not place tensor \"" + shown(entry.name) +
                                        "\" in " + shard + ", which holds it");
  }
  for (const auto& [tensor, shard] : shard_of)
    if (!is_buffer(tensor) && !tensors_.contains(tensor))
      throw Error(Category::data, folder_ + "/" + shard + ": lacks tensor \"" + shown(tensor) +
                                      "\", which the index places there");
}

void ImportSource::open(const std::string& name) {
  const SafetensorsReader& file = files_.emplace_back(folder_ + "/" + name);
  for (const TensorEntry& entry : file.tensors())
    if (is_buffer(entry.name))
      skipped_.push_back(entry.name);
    else
      tensors_[entry.name] = {&file, &entry};
}

void ImportSource::read(const std::string& name, std::int64_t begin, std::int64_t end,
                        float* out) const {
  const Source& from = tensors_.at(name);
  from.file->read_floats(*from.entry, begin, end - begin, out);
}

std::string ImportSource::tokenizer_json() const {
  FileSystem& files = FileSystem::posix();
  const std::string path = folder_ + "/" + kTokenizerName;
  return files.exists(path) ? files.read(path, kMaxTokenizerBytes) : "";
}

void ImportSource::require(const std::vector<TensorInfo>& wanted) const {
  std::vector<std::string> missing, superfluous, misshapen;
  std::set<std::string> names;
  for (const TensorInfo& tensor : wanted) {
    names.insert(tensor.name);
    const auto found = tensors_.find(tensor.name);
    if (found == tensors_.end())
      missing.push_back(tensor.name);
    else if (found->second.entry->shape != tensor.shape)
      misshapen.push_back(tensor.name + " " + shape_text(found->second.entry->shape) +
                          ", expected " + shape_text(tensor.shape));
  }
  for (const auto& [name, source] : tensors_)
    if (!names.contains(name)) superfluous.push_back(shown(name));
  if (missing.empty() && superfluous.empty() && misshapen.empty()) return;
  std::string fault;
  const auto tell = [&](const char* what, const std::vector<std::string>& list) {
    if (!list.empty()) fault += (fault.empty() ? "" : "; ") + std::string(what) + join(list);
  };
  tell("missing: ", missing);
  tell("not of this model: ", superfluous);
  tell("of another shape: ", misshapen);
  throw Error(Category::data, (files_.size() == 1 ? files_[0].path() : folder_) +
                                  ": its tensors are not those of the configuration; " + fault);
}

}  // namespace tessera::checkpoints
