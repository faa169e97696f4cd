#include "core/exit_record.h"

#include <cerrno>
#include <ctime>
#include <exception>
#include <iterator>

#include <unistd.h>

#include "core/file_system.h"
#include "core/json.h"

namespace tessera {
namespace {

constexpr std::int64_t kMostLockBytes = 4096;

}  // namespace

std::string exit_record_path(const std::string& folder) {
  return folder + "/exit.json";
}

std::string utc_time() {
  char when[32] = "";
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  std::strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", ::gmtime_r(&now, &parts));
  return when;
}

ExitPlace exit_place(const std::string& folder) noexcept {
  try {
    const std::string lock = folder + "/lock";
    FileSystem& files = FileSystem::posix();
    return {folder, files.exists(lock) ? files.read(lock, kMostLockBytes) : ""};
  } catch (const std::exception&) {
    return {};
  }
}

bool write_exit_record(const ExitPlace& place, const ExitRecord& record) noexcept {
  try {
    if (place.folder.empty() || exit_place(place.folder).holder != place.holder) return false;
    const std::string path = exit_record_path(place.folder);
    const std::string temporary = path + "." + std::to_string(record.rank) + ".tmp";
    const OrderedJson json = {
        {"code", record.code},   {"reason", record.reason},   {"rank", record.rank},
        {"step", record.step},   {"section", record.section}, {"behind", record.behind},
        {"asked", record.asked}, {"time", utc_time()},
    };
    // A key a line, so that a shell can read it.
    std::string text = "{\n";
    for (auto item = json.begin(); item != json.end(); ++item)
      text += OrderedJson(item.key()).dump() + ": " +
              item.value().dump(-1, ' ', false, OrderedJson::error_handler_t::replace) +
              (std::next(item) == json.end() ? "\n}\n" : ",\n");
    const auto file = FileSystem::posix().create(temporary);
    file->append(text);
    file->sync();
    file->close();
    // link() refuses an existing name, rename() would replace it; some file systems have no links.
    bool written = ::link(temporary.c_str(), path.c_str()) == 0;
    if (!written && errno != EEXIST && ::access(path.c_str(), F_OK) != 0)
      written = ::rename(temporary.c_str(), path.c_str()) == 0;
    ::unlink(temporary.c_str());
    return written;
  } catch (const std::exception&) {
    return false;
  }
}

void remove_exit_record(const std::string& folder) noexcept {
  try {
    ::unlink(exit_record_path(folder).c_str());
  } catch (const std::exception&) {
    // Out of memory for a path: the next allocation will say so.
  }
}

}  // namespace tessera
