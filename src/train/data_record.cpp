#include "train/data_record.h"

#include <map>

#include <spdlog/spdlog.h>

#include "core/error.h"
#include "core/file_identity.h"
#include "core/file_system.h"
#include "core/json.h"
#include "core/sha256.h"

namespace tessera::train {
namespace {

constexpr std::int64_t kRecordLimit = std::int64_t{256} << 20;  // bytes

using Record = std::map<std::string, data::SourceFile>;

// A record that cannot be read is none: every file is then compared in full.
Record read_record(const std::string& path) {
  Record record;
  FileSystem& files = FileSystem::posix();
  if (!files.exists(path)) return record;
  try {
    const Json all = parse_json(files.read(path, kRecordLimit), path);
    for (const Json& each : all.at("files")) {
      data::SourceFile file;
      file.path = each.at("path").get<std::string>();
      file.sha256 = each.at("sha256").get<std::string>();
      file.identity.bytes = each.at("bytes").get<std::int64_t>();
      file.identity.modified_ns = each.at("modified_ns").get<std::int64_t>();
      record[file.path] = file;
    }
  } catch (const Error& problem) {
    spdlog::warn("{}; the training data is compared in full", problem.what());
    record.clear();
  } catch (const Json::exception&) {
    spdlog::warn("{}: is no record of data; the training data is compared in full", path);
    record.clear();
  }
  return record;
}

bool same(const data::SourceFile& before, const data::SourceFile& now) {
  return before.sha256 == now.sha256 && before.identity.bytes == now.identity.bytes &&
         before.identity.modified_ns == now.identity.modified_ns;
}

}  // namespace

void check_data_record(const std::string& run_folder, const data::TokenSource& train,
                       const data::TokenSource* valid, bool resuming) {
  const std::string path = run_folder + "/data.json";
  std::vector<data::SourceFile> now = train.files();
  if (valid)
    for (const data::SourceFile& file : valid->files()) now.push_back(file);
  const bool known = resuming && FileSystem::posix().exists(path);
  const Record record = known ? read_record(path) : Record{};
  OrderedJson list = OrderedJson::array();
  for (const data::SourceFile& file : now) {
    const auto before = record.find(file.path);
    if (known && (before == record.end() || !same(before->second, file)) &&
        sha256_file(file.path) != file.sha256)
      throw Error(Category::data, file.path +
                                      ": was changed since the run began (its SHA-256 is not its "
                                      "manifest's): restore it, or start another run.name on data "
                                      "prepared again");
    list.push_back({{"path", file.path},
                    {"bytes", file.identity.bytes},
                    {"modified_ns", file.identity.modified_ns},
                    {"sha256", file.sha256}});
  }
  const OrderedJson all = {{"version", 1}, {"files", list}};
  write_atomically(FileSystem::posix(), path, all.dump(1) + "\n");
}

}  // namespace tessera::train
