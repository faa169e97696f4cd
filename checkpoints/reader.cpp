// Reading a checkpoint. Nothing of it is used before it has been checked.
#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include <sys/stat.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/layout.h"
#include "checkpoints/manifest.h"
#include "checkpoints/names.h"
#include "checkpoints/safetensors.h"
#include "core/error.h"
#include "core/mapped_file.h"
#include "core/sha256.h"

namespace tessera::checkpoints {
namespace {

constexpr const char* kPrefixes[] = {"param.", "m.", "v."};  // by Kind
constexpr std::int64_t kMaxTextBytes = std::int64_t{256} << 20;

// A file that a complete checkpoint has: Error{data} when it is missing.
void require_file(const std::string& path, const char* why) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 && errno == ENOENT)
    throw Error(Category::data, path + ": is missing" + why);
}

void check_size(const std::string& path, std::int64_t found, std::int64_t expected) {
  if (found != expected)
    throw Error(Category::data, path + ": holds " + std::to_string(found) +
                                    " bytes, the manifest says " + std::to_string(expected) +
                                    "; it is truncated or damaged");
}

void check_digest(const std::string& path, std::string_view bytes, const std::string& expected) {
  if (const std::string found = sha256(bytes); found != expected)
    throw Error(Category::data, path + ": SHA-256 differs from the manifest's (found " +
                                    found.substr(0, 12) + "..., expected " +
                                    expected.substr(0, 12) + "...); the file is damaged");
}

Manifest read_manifest(const std::string& path, Json& json) {
  const std::string file = path + "/" + kManifestName;
  require_file(file, "; a folder without it is not a complete checkpoint");
  const MappedFile mapped(file, Links::refuse);
  if (mapped.size() == 0) throw Error(Category::data, file + ": is empty");
  if (mapped.size() > kMaxManifestBytes)
    throw Error(Category::data, file + ": holds " + std::to_string(mapped.size()) +
                                    " bytes, at most " + std::to_string(kMaxManifestBytes) +
                                    " are allowed");
  Manifest manifest = parse_manifest(mapped.text(), file, json);
  if (const std::string name = checkpoint_name(manifest.state.step); base_name(path) != name)
    throw Error(Category::data, file + ": is of step " + std::to_string(manifest.state.step) +
                                    ", so its folder must be named " + name + ", not \"" +
                                    base_name(path) + "\"");
  return manifest;
}

std::string read_text(const std::string& path, const FileRecord& record) {
  require_file(path, ", but the manifest lists it");
  const MappedFile mapped(path, Links::refuse);
  check_size(path, mapped.size(), record.bytes);
  if (mapped.size() > kMaxTextBytes)
    throw Error(Category::data, path + ": holds " + std::to_string(mapped.size()) +
                                    " bytes, too many for this file");
  check_digest(path, mapped.text(), record.sha256);
  return std::string(mapped.text());
}

// A piece of a tensor with its three arrays in its part.
struct StoredPiece {
  std::int64_t begin = 0, end = 0;
  const SafetensorsReader* part = nullptr;
  const TensorEntry* entries[3] = {};
};

}  // namespace

struct CheckpointReader::State {
  std::string path;
  Manifest manifest;
  Json json;
  std::string tokenizer;
  std::vector<SafetensorsReader> parts;
  std::unordered_map<std::string, std::vector<StoredPiece>> pieces;  // by tensor name

  void open_part(const PartRecord& record, Verify verify) {
    const std::string file = path + "/" + record.file;
    require_file(file, ", but the manifest lists it");
    {
      // Size and digest first: they explain damage better than the header's faults do.
      const MappedFile mapped(file, Links::refuse);
      check_size(file, mapped.size(), record.bytes);
      if (verify == Verify::digests) check_digest(file, mapped.text(), record.sha256);
    }
    parts.emplace_back(file, Links::refuse);
    check_size(file, parts.back().file().size(), record.bytes);
    if (parts.back().tensors().size() != 3 * record.slices.size())
      throw Error(Category::data,
                  file + ": holds " + std::to_string(parts.back().tensors().size()) +
                      " arrays, the manifest says " + std::to_string(3 * record.slices.size()));
  }

  StoredPiece stored(const std::string& tensor, const Layout::Piece& piece) const {
    StoredPiece result{piece.begin, piece.end, &parts[static_cast<std::size_t>(piece.part)], {}};
    for (int kind = 0; kind < 3; ++kind) {
      const std::string name = slice_name(kPrefixes[kind], tensor, piece.begin, piece.end);
      const TensorEntry* entry = result.part->find(name);
      if (!entry || entry->type != TensorType::f32 ||
          entry->shape != std::vector<std::int64_t>{piece.end - piece.begin})
        throw Error(Category::data, result.part->path() + ": lacks the F32 array \"" + shown(name) +
                                        "\" that the manifest lists");
      result.entries[kind] = entry;
    }
    return result;
  }
};

CheckpointReader::CheckpointReader(const std::string& path, Verify verify)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.path = without_slashes(path);
  s.manifest = read_manifest(s.path, s.json);
  const Manifest& m = s.manifest;
  s.manifest.state.config_yaml = read_text(s.path + "/" + kConfigName, m.files.at(kConfigName));
  if (const auto tokenizer = m.files.find(kTokenizerName); tokenizer != m.files.end())
    s.tokenizer = read_text(s.path + "/" + kTokenizerName, tokenizer->second);
  if (const auto choices = m.files.find(kAlgorithmsName); choices != m.files.end())
    s.manifest.state.algorithms_json = read_text(s.path + "/" + kAlgorithmsName, choices->second);
  const Layout layout(m.tensors, m.parts, s.path + "/" + kManifestName);
  s.parts.reserve(m.parts.size());
  for (const PartRecord& part : m.parts) s.open_part(part, verify);
  for (std::size_t t = 0; t < m.tensors.size(); ++t) {
    std::vector<StoredPiece>& pieces = s.pieces[m.tensors[t].name];
    for (const Layout::Piece& piece : layout.pieces(static_cast<std::int64_t>(t)))
      pieces.push_back(s.stored(m.tensors[t].name, piece));
  }
}

CheckpointReader::~CheckpointReader() = default;
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;

const std::string& CheckpointReader::path() const {
  return state_->path;
}

const TrainingState& CheckpointReader::state() const {
  return state_->manifest.state;
}

const std::vector<TensorInfo>& CheckpointReader::tensors() const {
  return state_->manifest.tensors;
}

const std::string& CheckpointReader::tokenizer_json() const {
  return state_->tokenizer;
}

const Json& CheckpointReader::manifest() const {
  return state_->json;
}

void CheckpointReader::read(Kind kind, const std::string& tensor, std::int64_t begin,
                            std::int64_t end, float* out) const {
  const auto found = state_->pieces.find(tensor);
  if (found == state_->pieces.end())
    throw Error(Category::data, state_->path + ": holds no tensor \"" + shown(tensor) +
                                    "\"; it is of another model");
  const std::vector<StoredPiece>& pieces = found->second;
  if (begin < 0 || end < begin || end > pieces.back().end)
    throw Error(Category::data, state_->path + ": elements [" + std::to_string(begin) + ":" +
                                    std::to_string(end) + "] of \"" + shown(tensor) +
                                    "\" are wanted, which has " +
                                    std::to_string(pieces.back().end));
  auto piece = std::upper_bound(pieces.begin(), pieces.end(), begin,
                                [](std::int64_t at, const StoredPiece& p) { return at < p.end; });
  for (std::int64_t at = begin; at < end; ++piece) {
    const std::int64_t stop = std::min(end, piece->end);
    piece->part->read_floats(*piece->entries[static_cast<int>(kind)], at - piece->begin, stop - at,
                             out + (at - begin));
    at = stop;
  }
}

}  // namespace tessera::checkpoints
