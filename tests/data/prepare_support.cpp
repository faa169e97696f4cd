#include "tests/data/prepare_support.h"

#include <filesystem>

#include "core/json.h"
#include "core/random.h"
#include "tests/data/data_support.h"

namespace tessera::data {

PrepareOptions bytes_options(const std::vector<std::string>& inputs, const std::string& out) {
  PrepareOptions options;
  options.inputs = inputs;
  options.out = out;
  options.tokenizer = "bytes";
  options.threads = 3;
  return options;
}

std::string json_lines(const std::vector<std::string>& texts) {
  std::string lines;
  for (const std::string& text : texts)
    lines += Json{{"meta", {{"n", 1}, {"text", "not this"}}}, {"text", text}}.dump() + "\n";
  return lines;
}

std::vector<std::string> made_texts(std::int64_t count, std::int64_t longest) {
  constexpr const char* kPieces[] = {"a", "some words ", "\n", "\"", "\\", "é", "🙂", "\t"};
  const CounterRandom random(8, 9);
  std::vector<std::string> texts;
  std::uint64_t draw = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t size = 1 + random.bits(draw++) % static_cast<std::uint64_t>(longest);
    std::string text = std::to_string(i) + " ";
    while (text.size() < size) text += kPieces[random.bits(draw++) % std::size(kPieces)];
    texts.push_back(text);
  }
  return texts;
}

std::map<std::string, std::string> tree_of(const std::string& folder) {
  std::map<std::string, std::string> files;
  if (!std::filesystem::exists(folder)) return files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[entry.path().string().substr(folder.size())] = read_file(entry.path().string());
  return files;
}

}  // namespace tessera::data
