#include "data/input_files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "core/file_system.h"

namespace tessera::data {
namespace {

namespace fs = std::filesystem;

// By the name alone; automatic when it says nothing. A .bin is Megatron's when its .idx is there.
InputFormat format_of(const fs::path& path, bool in_folder) {
  fs::path name = path.filename();
  const bool compressed = name.extension() == ".zst" || name.extension() == ".gz";
  if (compressed) name = name.stem();
  const std::string extension = name.extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") return InputFormat::jsonl;
  if (extension == ".json" && !in_folder) return InputFormat::jsonl;
  if (extension == ".txt") return InputFormat::text;
  if (compressed) return InputFormat::automatic;
  fs::path index = path;
  index.replace_extension(".idx");
  if (extension == ".bin") return fs::exists(index) ? InputFormat::megatron : InputFormat::flat;
  if (extension == ".idx") return InputFormat::megatron;
  return InputFormat::automatic;
}

InputFile make_file(const fs::path& path, InputFormat format) {
  fs::path data = path;
  if (format == InputFormat::megatron) data.replace_extension(".bin");
  return {data.string(), format, FileSystem::posix().size(data.string())};
}

std::vector<InputFile> files_below(const std::string& folder, InputFormat wanted) {
  std::vector<fs::path> paths;
  std::error_code code;
  fs::recursive_directory_iterator at(folder, code), end;
  for (; !code && at != end; at.increment(code)) {
    const bool hidden = at->path().filename().string().starts_with(".");
    if (at->is_directory() && hidden) at.disable_recursion_pending();
    if (at->is_regular_file() && !hidden) paths.push_back(at->path());
  }
  if (code) throw Error(Category::io, folder + ": cannot be listed: " + code.message());
  std::sort(paths.begin(), paths.end());
  std::vector<InputFile> files;
  for (const fs::path& path : paths) {
    const InputFormat format = format_of(path, true);
    // Of a Megatron pair the .bin stands for both.
    if (format == InputFormat::automatic || path.extension() == ".idx") continue;
    if (wanted == InputFormat::automatic || wanted == format)
      files.push_back(make_file(path, format));
  }
  if (files.empty())
    throw Error(Category::config, folder +
                                      ": no file of a known format in this folder (.jsonl, "
                                      ".ndjson, .txt, each also .zst or .gz; .bin)");
  return files;
}

}  // namespace

std::vector<InputFile> find_inputs(const std::vector<std::string>& inputs, InputFormat format) {
  std::vector<InputFile> files;
  for (const std::string& input : inputs) {
    std::error_code code;
    const fs::file_status status = fs::status(input, code);
    if (!fs::exists(status)) {
      const bool pair = (format == InputFormat::megatron || format == InputFormat::automatic) &&
                        fs::exists(input + ".bin") && fs::exists(input + ".idx");
      if (!pair)
        throw Error(Category::io, input + ": cannot be opened: " +
                                      (code ? code.message() : std::strerror(ENOENT)));
      files.push_back(make_file(input + ".bin", InputFormat::megatron));
    } else if (fs::is_directory(status)) {
      const auto below = files_below(input, format);
      files.insert(files.end(), below.begin(), below.end());
    } else {
      const InputFormat found = format == InputFormat::automatic ? format_of(input, false) : format;
      if (found == InputFormat::automatic)
        throw Error(Category::config,
                    input +
                        ": the name says no known format (.jsonl, .ndjson, .txt, each also "
                        ".zst or .gz; .bin, .idx); say which with --format");
      files.push_back(make_file(input, found));
    }
  }
  return files;
}

bool holds_ids(InputFormat format) {
  return format == InputFormat::megatron || format == InputFormat::flat;
}

}  // namespace tessera::data
