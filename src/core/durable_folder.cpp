#include "core/durable_folder.h"

namespace tessera {

void create_durably(FileSystem& files, const std::string& path) {
  if (files.exists(path)) return;
  const std::string parent = parent_directory(path);
  if (parent != path) create_durably(files, parent);
  files.create_directories(path);
  files.sync_directory(parent);
}

}  // namespace tessera
