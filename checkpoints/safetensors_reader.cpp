#include <cstring>
#include <unordered_map>

#include "checkpoints/names.h"
#include "checkpoints/safetensors.h"
#include "checkpoints/safetensors_header.h"
#include "core/error.h"
#include "core/float_formats.h"

namespace tessera::checkpoints {
namespace {

constexpr std::int64_t kLengthBytes = 8;

// Element `index` of unaligned little-endian data.
template <typename T>
T element(const std::byte* data, std::int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <typename T, typename Out>
void widen(const std::byte* data, std::int64_t begin, std::int64_t count, Out* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<Out>(element<T>(data, begin + i));
}

}  // namespace

struct SafetensorsReader::Mapping {
  std::string path;
  MappedFile file;
  SafetensorsHeader header;
  std::unordered_map<std::string, std::size_t> index;
  const std::byte* data = nullptr;  // after the header
};

SafetensorsReader::SafetensorsReader(const std::string& path, Links links) {
  mapping_.reset(new Mapping{path, MappedFile(path, links), {}, {}, nullptr});
  Mapping& m = *mapping_;
  if (m.file.size() < kLengthBytes)
    throw Error(Category::data, path + ": holds " + std::to_string(m.file.size()) +
                                    " bytes, too few for a safetensors file");
  const auto length = element<std::uint64_t>(m.file.data(), 0);
  const std::int64_t rest = m.file.size() - kLengthBytes;
  if (length > static_cast<std::uint64_t>(kMaxHeaderBytes) ||
      length > static_cast<std::uint64_t>(rest))
    throw Error(Category::data, path + ": safetensors header of " + std::to_string(length) +
                                    " bytes in a file of " + std::to_string(m.file.size()) +
                                    " (at most " + std::to_string(kMaxHeaderBytes) +
                                    " are allowed); it is not a safetensors file or is damaged");
  const auto header_bytes = static_cast<std::int64_t>(length);
  m.header = parse_safetensors_header(m.file.text().substr(kLengthBytes, length),
                                      rest - header_bytes, path);
  for (std::size_t i = 0; i < m.header.tensors.size(); ++i)
    m.index.emplace(m.header.tensors[i].name, i);
  m.data = m.file.data() + kLengthBytes + header_bytes;
}

SafetensorsReader::~SafetensorsReader() = default;
SafetensorsReader::SafetensorsReader(SafetensorsReader&&) noexcept = default;

const std::string& SafetensorsReader::path() const {
  return mapping_->path;
}

const MappedFile& SafetensorsReader::file() const {
  return mapping_->file;
}

const std::vector<TensorEntry>& SafetensorsReader::tensors() const {
  return mapping_->header.tensors;
}

const std::map<std::string, std::string>& SafetensorsReader::metadata() const {
  return mapping_->header.metadata;
}

const TensorEntry* SafetensorsReader::find(const std::string& name) const {
  const auto found = mapping_->index.find(name);
  return found == mapping_->index.end() ? nullptr : &mapping_->header.tensors[found->second];
}

const void* SafetensorsReader::bytes(const TensorEntry& entry) const {
  return mapping_->data + entry.offset;
}

void SafetensorsReader::read_floats(const TensorEntry& entry, std::int64_t begin,
                                    std::int64_t count, float* out) const {
  TESSERA_CHECK(begin >= 0 && count >= 0 && begin <= entry.count() &&
                count <= entry.count() - begin);
  if (count == 0) return;
  const std::byte* data = mapping_->data + entry.offset;
  switch (entry.type) {
    case TensorType::f32:
      std::memcpy(out, data + begin * 4, static_cast<std::size_t>(count) * 4);
      return;
    case TensorType::f64:
      return widen<double>(data, begin, count, out);
    case TensorType::bf16:
      for (std::int64_t i = 0; i < count; ++i)
        out[i] = bf16_to_float(element<std::uint16_t>(data, begin + i));
      return;
    case TensorType::f16:
      for (std::int64_t i = 0; i < count; ++i)
        out[i] = f16_to_float(element<std::uint16_t>(data, begin + i));
      return;
    default:
      throw Error(Category::data, mapping_->path + ": tensor \"" + shown(entry.name) +
                                      "\" has dtype " + type_name(entry.type) +
                                      ", expected F32, F16, BF16 or F64");
  }
}

std::vector<std::int64_t> SafetensorsReader::read_integers(const TensorEntry& entry) const {
  const std::byte* data = mapping_->data + entry.offset;
  const std::int64_t count = entry.count();
  std::vector<std::int64_t> values;
  const auto fill = [&]<typename T>(T) {
    values.resize(static_cast<std::size_t>(count));
    widen<T>(data, 0, count, values.data());
  };
  switch (entry.type) {
    case TensorType::i64:
      fill(std::int64_t{});
      break;
    case TensorType::i32:
      fill(std::int32_t{});
      break;
    case TensorType::i16:
      fill(std::int16_t{});
      break;
    case TensorType::i8:
      fill(std::int8_t{});
      break;
    case TensorType::u8:
    case TensorType::boolean:
      fill(std::uint8_t{});
      break;
    default:
      throw Error(Category::data, mapping_->path + ": tensor \"" + shown(entry.name) +
                                      "\" has dtype " + type_name(entry.type) +
                                      ", expected an integer type");
  }
  return values;
}

}  // namespace tessera::checkpoints
