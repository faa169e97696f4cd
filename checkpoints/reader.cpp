// Reading a checkpoint. Nothing of it is used before it has been checked.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>

#include <sys/stat.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/layout.h"
#include "checkpoints/manifest.h"
#include "checkpoints/names.h"
#include "checkpoints/pin.h"
#include "checkpoints/safetensors.h"
#include "core/error.h"
#include "core/mapped_file.h"
#include "core/sha256.h"

namespace tessera::checkpoints {
namespace {

constexpr const char* kPrefixes[] = {"param.", "m.", "v."};  // by Kind
constexpr std::int64_t kPieceBytes = std::int64_t{1} << 20;
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

void check_digest(const std::string& path, const std::string& found, const std::string& expected) {
  if (found != expected)
    throw Error(Category::data, path + ": SHA-256 differs from the manifest's (found " +
                                    found.substr(0, 12) + "..., expected " +
                                    expected.substr(0, 12) + "...); the file is damaged");
}

std::string read_all(const ReadableFile& file) {
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, text.data(), static_cast<std::int64_t>(text.size()));
  return text;
}

Manifest read_manifest(FileSystem& files, const std::string& path, Json& json) {
  const std::string file = path + "/" + kManifestName;
  const auto opened = files.open(file);
  const std::int64_t size = opened->size();
  if (size == 0) throw Error(Category::data, file + ": is empty");
  if (size > kMaxManifestBytes)
    throw Error(Category::data, file + ": holds " + std::to_string(size) + " bytes, at most " +
                                    std::to_string(kMaxManifestBytes) + " are allowed");
  Manifest manifest = parse_manifest(read_all(*opened), file, json);
  if (const std::string name = checkpoint_name(manifest.state.step); base_name(path) != name)
    throw Error(Category::data, file + ": is of step " + std::to_string(manifest.state.step) +
                                    ", so its folder must be named " + name + ", not \"" +
                                    base_name(path) + "\"");
  return manifest;
}

std::string read_text(FileSystem& files, const std::string& path, const FileRecord& record) {
  require_file(path, ", but the manifest lists it");
  const auto file = files.open(path);
  check_size(path, file->size(), record.bytes);
  if (record.bytes > kMaxTextBytes)
    throw Error(Category::data, path + ": holds " + std::to_string(record.bytes) +
                                    " bytes, too many for this file");
  std::string text = read_all(*file);
  check_digest(path, sha256(text), record.sha256);
  return text;
}

// Size and, if asked, every byte. Read through the seam, not mapped: a disk that fails is an error
// then, not a signal.
void check_part(FileSystem& files, const std::string& path, const PartRecord& record,
                Verify verify) {
  require_file(path, ", but the manifest lists it");
  const auto file = files.open(path);
  check_size(path, file->size(), record.bytes);
  if (verify != Verify::digests) return;
  Sha256 digest;
  std::vector<char> piece(static_cast<std::size_t>(std::min(record.bytes, kPieceBytes)));
  for (std::int64_t at = 0; at < record.bytes;) {
    const std::int64_t count = std::min(kPieceBytes, record.bytes - at);
    file->read(at, piece.data(), count);
    digest.update(piece.data(), static_cast<std::size_t>(count));
    at += count;
  }
  check_digest(path, digest.finish(), record.sha256);
}

// All parts, several at a time; the fault of the first part that has one.
void check_parts(FileSystem& files, const std::string& path, const std::vector<PartRecord>& parts,
                 Verify verify) {
  std::vector<std::exception_ptr> faults(parts.size());
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < parts.size(); i = next++) try {
        check_part(files, path + "/" + parts[i].file, parts[i], verify);
      } catch (...) {
        faults[i] = std::current_exception();
      }
  };
  const std::size_t most = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 16);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < std::min(most, parts.size()); ++i) threads.emplace_back(work);
    work();
  }
  for (const std::exception_ptr& fault : faults)
    if (fault) std::rethrow_exception(fault);
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
  std::optional<Pin> pin;
  Manifest manifest;
  Json json;
  std::string tokenizer;
  std::vector<SafetensorsReader> parts;
  std::unordered_map<std::string, std::vector<StoredPiece>> pieces;  // by tensor name

  void open_part(const PartRecord& record) {
    const std::string file = path + "/" + record.file;
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

CheckpointReader::CheckpointReader(const std::string& path, Verify verify, FileSystem& files)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.path = without_slashes(path);
  require_file(s.path + "/" + kManifestName, "; a folder without it is not a complete checkpoint");
  s.pin.emplace(Pin::for_reading(s.path));
  s.manifest = read_manifest(files, s.path, s.json);
  const Manifest& m = s.manifest;
  s.manifest.state.config_yaml =
      read_text(files, s.path + "/" + kConfigName, m.files.at(kConfigName));
  if (const auto tokenizer = m.files.find(kTokenizerName); tokenizer != m.files.end())
    s.tokenizer = read_text(files, s.path + "/" + kTokenizerName, tokenizer->second);
  if (const auto choices = m.files.find(kAlgorithmsName); choices != m.files.end())
    s.manifest.state.algorithms_json =
        read_text(files, s.path + "/" + kAlgorithmsName, choices->second);
  const Layout layout(m.tensors, m.parts, s.path + "/" + kManifestName);
  s.parts.reserve(m.parts.size());
  // Sizes and digests first: they explain damage better than the headers' faults do.
  check_parts(files, s.path, m.parts, verify);
  for (const PartRecord& part : m.parts) s.open_part(part);
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
