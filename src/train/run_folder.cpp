#include "train/run_folder.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"
#include "core/exit_record.h"
#include "core/file_system.h"

namespace tessera::train {

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

void RunFolder::open() {
  FileSystem& files = FileSystem::posix();
  files.create_directories(path_ + "/log");
  files.create_directories(checkpoints());
  const std::string file = path_ + "/lock";
  lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) throw Error(Category::io, file + ": cannot be opened: " + std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const std::string holder = files.read(file, 4096);
    throw Error(Category::config, path_ + ": another job is using this run (" + holder +
                                      "); wait for it, stop it, or choose another run.name");
  }
  char host[256] = "?";
  ::gethostname(host, sizeof host - 1);
  const std::string holder =
      std::string("host ") + host + ", pid " + std::to_string(::getpid()) + ", since " + utc_time();
  if (::ftruncate(lock_, 0) != 0 || ::pwrite(lock_, holder.data(), holder.size(), 0) < 0)
    throw Error(Category::io, file + ": cannot be written: " + std::strerror(errno));
  remove_exit_record(path_);
}

bool RunFolder::take(const std::string& name) const {
  return ::unlink((path_ + "/" + name).c_str()) == 0;
}

}  // namespace tessera::train
