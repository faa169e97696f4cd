// The JSON header of a safetensors file, parsed as a stream: memory stays in proportion to the
// tensors that are there, whatever the text holds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoints/safetensors.h"

namespace tessera::checkpoints {

inline constexpr std::int64_t kMaxHeaderBytes = 100'000'000;
inline constexpr std::int64_t kMaxTensors = 100'000;
inline constexpr std::int64_t kMaxDimensions = 16;
inline constexpr std::int64_t kMaxNameBytes = 1024;

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // by offset
  std::map<std::string, std::string> metadata;
};

// Parses and checks the header `text` of a file with `data_bytes` bytes after it. Error{data}
// naming `file` and the fault.
SafetensorsHeader parse_safetensors_header(std::string_view text, std::int64_t data_bytes,
                                           const std::string& file);

}  // namespace tessera::checkpoints
