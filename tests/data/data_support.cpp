#include "tests/data/data_support.h"

#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "core/random.h"

namespace tessera::data {

std::string scratch() {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::filesystem::path path = std::filesystem::path(TESSERA_BINARY_DIR) /
                                     "tests/data_scratch" / test->test_suite_name() / test->name();
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path.string();
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  ASSERT_TRUE(file.good()) << path;
}

Documents made_documents(std::int64_t count, std::int64_t longest, std::int64_t vocab,
                         std::uint64_t seed) {
  const CounterRandom random(seed, hash_name("made documents"));
  Documents documents;
  std::uint64_t draw = 0;
  for (std::int64_t d = 0; d < count; ++d) {
    const auto length = random.bits(draw++) % static_cast<std::uint64_t>(longest + 1);
    std::vector<std::int32_t> ids;
    for (std::uint64_t i = 0; i < length; ++i)
      ids.push_back(
          static_cast<std::int32_t>(random.bits(draw++) % static_cast<std::uint64_t>(vocab)));
    documents.push_back(std::move(ids));
  }
  return documents;
}

std::vector<std::int32_t> joined(const Documents& documents) {
  std::vector<std::int32_t> all;
  for (const auto& ids : documents) all.insert(all.end(), ids.begin(), ids.end());
  return all;
}

ShardKind plain_kind(std::int64_t vocab) {
  return {vocab, static_cast<std::int32_t>(vocab - 1), ""};
}

ShardManifest write_folder(const std::string& path, const Documents& documents,
                           const ShardKind& kind, const ShardFolderOptions& options,
                           const std::string& tokenizer_json) {
  ShardFolderWriter writer(path, kind, tokenizer_json, options);
  for (const auto& ids : documents) {
    writer.begin_document(static_cast<std::int64_t>(ids.size()));
    writer.append(ids);
    writer.end_document(static_cast<std::int64_t>(ids.size()));
  }
  return writer.finish();
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(Category::internal, "none");
}

void expect_error(Category category, const std::vector<std::string>& words,
                  const std::function<void()>& action) {
  const Error error = error_of(action);
  EXPECT_EQ(static_cast<int>(error.category()), static_cast<int>(category)) << error.what();
  for (const std::string& word : words)
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
        << "\"" << word << "\" is not in: " << error.what();
}

}  // namespace tessera::data
