#include "checkpoints/import_source.h"

#include <algorithm>
#include <set>

#include "checkpoints/hugging_face.h"
#include "checkpoints/names.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera::checkpoints {
namespace {

constexpr std::int64_t kMaxIndexBytes = std::int64_t{16} << 20;
constexpr std::int64_t kMaxTokenizerBytes = std::int64_t{64} << 20;
constexpr std::size_t kMaxShards = 10'000;
constexpr std::size_t kMostNamed = 4;

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
  const std::string index_file = folder_ + "/" + kShardIndexFile;
  if (std::find(found.begin(), found.end(), kModelFile) != found.end()) {
    files_.emplace_back(folder_ + "/" + kModelFile);
    add(files_.back());
  } else if (files.exists(index_file)) {
    open_shards(index_file);
  } else if (found.size() == 1) {
    files_.emplace_back(folder_ + "/" + found[0]);
    add(files_.back());
  } else {
    throw Error(Category::data, folder_ + ": holds neither " + kModelFile + " nor " +
                                    kShardIndexFile +
                                    "; files of other formats must be converted to safetensors");
  }
}

void ImportSource::open_shards(const std::string& index_file) {
  const Json json = parse_json(FileSystem::posix().read(index_file, kMaxIndexBytes), index_file);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object())
    throw Error(Category::data, index_file + ": key \"weight_map\" is not an object");
  std::map<std::string, std::string> shard_of;
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !is_plain_name(shard.get_ref<const std::string&>()))
      throw Error(Category::data,
                  index_file + ": " + shown(shard.dump()) + " is not a plain file name");
    shard_of[tensor] = shard.get<std::string>();
    shards.insert(shard.get<std::string>());
  }
  if (shards.size() > kMaxShards)
    throw Error(Category::data,
                index_file + ": names more than " + std::to_string(kMaxShards) + " files");
  files_.reserve(shards.size());  // entries point into them
  for (const std::string& shard : shards) {
    files_.emplace_back(folder_ + "/" + shard);
    for (const TensorEntry& entry : files_.back().tensors())
      if (const auto found = shard_of.find(entry.name);
          found == shard_of.end() || found->second != shard)
        throw Error(Category::data, index_file + ": does not place tensor \"" + shown(entry.name) +
                                        "\" in " + shard + ", which holds it");
    add(files_.back());
  }
  for (const auto& [tensor, shard] : shard_of)
    if (!is_buffer(tensor) && !tensors_.contains(tensor))
      throw Error(Category::data, folder_ + "/" + shard + ": lacks tensor \"" + shown(tensor) +
                                      "\", which the index places there");
}

void ImportSource::add(const SafetensorsReader& file) {
  for (const TensorEntry& entry : file.tensors())
    if (!is_buffer(entry.name)) tensors_[entry.name] = {&file, &entry};
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
