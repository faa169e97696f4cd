#include <set>

#include "checkpoints/safetensors.h"
#include "core/error.h"
#include "core/integers.h"
#include "core/json.h"
#include "core/sha256.h"

namespace tessera::checkpoints {
namespace {
constexpr std::int64_t kDataAlignment = 64;  // of the data's start in the file
constexpr std::int64_t kLengthBytes = 8;
}  // namespace

struct SafetensorsWriter::State {
  State(FileSystem& file_system, std::string file_path)
      : files(file_system), path(std::move(file_path)) {}

  FileSystem& files;
  std::string path;
  OrderedJson header = OrderedJson::object();
  OrderedJson metadata = OrderedJson::object();
  std::set<std::string> names;
  std::int64_t declared = 0, appended = 0, header_bytes = 0;
  std::unique_ptr<WritableFile> file;  // from the first append or finish
  Sha256 hash;

  void write(const void* bytes, std::int64_t count) {
    file->append(bytes, static_cast<std::size_t>(count));
    hash.update(bytes, static_cast<std::size_t>(count));
  }

  void open() {
    OrderedJson all = OrderedJson::object();
    if (!metadata.empty()) all["__metadata__"] = metadata;
    all.update(header);
    std::string text = all.dump();
    const auto used = kLengthBytes + static_cast<std::int64_t>(text.size());
    text.append(static_cast<std::size_t>(round_up(used, kDataAlignment) - used), ' ');
    const std::uint64_t length = text.size();
    file = files.create(path);
    write(&length, kLengthBytes);
    write(text.data(), static_cast<std::int64_t>(text.size()));
    header_bytes = kLengthBytes + static_cast<std::int64_t>(text.size());
  }
};

SafetensorsWriter::SafetensorsWriter(FileSystem& files, std::string path)
    : state_(std::make_unique<State>(files, std::move(path))) {}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::declare(const std::string& name, TensorType type,
                                const std::vector<std::int64_t>& shape) {
  State& s = *state_;
  TESSERA_CHECK(!s.file && name != "__metadata__" && s.names.insert(name).second);
  std::int64_t bytes = element_bytes(type);
  for (const std::int64_t extent : shape) {
    TESSERA_CHECK(extent >= 0);
    bytes = checked_mul(bytes, extent, name);
  }
  const std::int64_t begin = s.declared;
  s.declared = checked_add(begin, bytes, name);
  s.header[name] = {
      {"dtype", type_name(type)}, {"shape", shape}, {"data_offsets", {begin, s.declared}}};
}

void SafetensorsWriter::set_metadata(const std::string& key, const std::string& value) {
  TESSERA_CHECK(!state_->file);
  state_->metadata[key] = value;
}

void SafetensorsWriter::append(const void* bytes, std::int64_t count) {
  State& s = *state_;
  TESSERA_CHECK(count >= 0 && count <= s.declared - s.appended);
  if (!s.file) s.open();
  s.write(bytes, count);
  s.appended += count;
}

SafetensorsWriter::Result SafetensorsWriter::finish() {
  State& s = *state_;
  TESSERA_CHECK(s.appended == s.declared);
  if (!s.file) s.open();
  s.file->sync();
  s.file->close();
  return {s.header_bytes + s.declared, s.hash.finish()};
}

}  // namespace tessera::checkpoints
