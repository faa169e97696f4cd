// A folder that a power cut does not take away again.
#pragma once

#include <string>

#include "core/file_system.h"

namespace tessera {

// Creates `path` and those of its parents that are missing; each is in its parent for good when it
// returns.
void create_durably(FileSystem& files, const std::string& path);

}  // namespace tessera
