// Scratch folders and small shard folders for the data tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/shard_folder_writer.h"

namespace tessera::data {

using Documents = std::vector<std::vector<std::int32_t>>;

// An empty folder below the build tree, one for each test.
std::string scratch();

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& bytes);

// `count` documents of made-up ids below `vocab`, lengths 0..longest.
Documents made_documents(std::int64_t count, std::int64_t longest, std::int64_t vocab,
                         std::uint64_t seed);
std::vector<std::int32_t> joined(const Documents& documents);

// A kind without tokenizer.
ShardKind plain_kind(std::int64_t vocab);
// Writes a folder of the documents; each has as many text bytes as tokens.
ShardManifest write_folder(const std::string& path, const Documents& documents,
                           const ShardKind& kind, const ShardFolderOptions& options = {},
                           const std::string& tokenizer_json = "");

// The Error that `action` throws; a test failure when it throws none.
Error error_of(const std::function<void()>& action);
// Expects an Error of a category whose message holds every one of `words`.
void expect_error(Category category, const std::vector<std::string>& words,
                  const std::function<void()>& action);

}  // namespace tessera::data
