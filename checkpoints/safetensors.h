// The safetensors format: u64 little-endian header length, JSON header {name: {dtype, shape,
// data_offsets}, "__metadata__": {string: string}}, then the tensors' bytes.
//
// Reading never trusts the file: header length against file size and 100 MB, offsets in range,
// ascending, without overlap or holes, shape product x dtype size = bytes, unique names; all before
// any allocation beyond the header. Files are mapped, not copied.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/file_system.h"
#include "core/mapped_file.h"

namespace tessera::checkpoints {

enum class TensorType { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

struct TensorEntry {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;  // bytes from the start of the data part
  std::int64_t bytes = 0;
  std::int64_t count() const;  // elements
};

std::int64_t element_bytes(TensorType type);
const char* type_name(TensorType type);  // "F32", "BF16", ...

class SafetensorsReader {
 public:
  // Error{io} when it cannot be opened, Error{data} naming file and fault when it is not sound.
  explicit SafetensorsReader(const std::string& path, Links links = Links::follow);
  ~SafetensorsReader();
  SafetensorsReader(SafetensorsReader&&) noexcept;

  const std::string& path() const;
  const MappedFile& file() const;                   // all of it
  const std::vector<TensorEntry>& tensors() const;  // in file order
  const std::map<std::string, std::string>& metadata() const;
  const TensorEntry* find(const std::string& name) const;  // null when absent
  // The tensor's bytes, valid while the reader lives.
  const void* bytes(const TensorEntry& entry) const;
  // Elements [begin, begin + count) as float32, from F32, F16, BF16 or F64.
  void read_floats(const TensorEntry& entry, std::int64_t begin, std::int64_t count,
                   float* out) const;
  // The whole tensor as int64, from any integer type.
  std::vector<std::int64_t> read_integers(const TensorEntry& entry) const;

 private:
  struct Mapping;
  std::unique_ptr<Mapping> mapping_;
};

// Writes one file in two passes: declare every tensor, then append the bytes in that order.
// The header is padded with blanks to a multiple of 8 bytes; 64-byte aligned data start.
class SafetensorsWriter {
 public:
  SafetensorsWriter(FileSystem& files, std::string path);
  ~SafetensorsWriter();
  void declare(const std::string& name, TensorType type, const std::vector<std::int64_t>& shape);
  void set_metadata(const std::string& key, const std::string& value);
  // After the last declare: bytes of the declared tensors, in order, in pieces of any size.
  void append(const void* bytes, std::int64_t count);
  // Syncs and closes; an internal error unless every declared byte was appended. Returns the file's
  // size and its SHA-256, computed while writing.
  struct Result {
    std::int64_t bytes = 0;
    std::string sha256;
  };
  Result finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera::checkpoints
