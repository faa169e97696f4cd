// Whether a file is still the one it was: cheap enough to ask before every read.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

struct FileIdentity {
  std::int64_t bytes = 0;
  std::int64_t modified_ns = 0;          // since 1970
  std::uint64_t device = 0, number = 0;  // of the file in its file system

  bool operator==(const FileIdentity&) const = default;
};

// Error{io} naming the path when it cannot be asked for.
FileIdentity identify_file(const std::string& path);

}  // namespace tessera
