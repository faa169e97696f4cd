// manifest.json: what a checkpoint consists of. Its text ends with the SHA-256 of everything before
// that entry, so a changed byte anywhere in a checkpoint is found:
//
//   { ...,
//    "manifest_sha256": "<64 digits>"
//   }
//
// The digest is of the bytes up to (not including) the ",\n" before "manifest_sha256".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "core/json.h"

namespace tessera::checkpoints {

inline constexpr const char* kManifestFormat = "tessera-checkpoint";
inline constexpr std::int64_t kMaxManifestBytes = std::int64_t{64} << 20;

struct FileRecord {
  std::int64_t bytes = 0;
  std::string sha256;
};

struct Manifest {
  TrainingState state;  // without config_yaml
  std::vector<TensorInfo> tensors;
  std::vector<PartRecord> parts;
  std::map<std::string, FileRecord> files;  // config.yaml and perhaps tokenizer.json
  std::string written_at;                   // "2025-01-31T12:00:00Z"
};

std::string manifest_text(const Manifest& manifest);

// The manifest in `text`, checked: format, version, digest, types, plain file names. The JSON
// itself goes to `json`. Error{data} naming `file`.
Manifest parse_manifest(std::string_view text, const std::string& file, Json& json);

}  // namespace tessera::checkpoints
