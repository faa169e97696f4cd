// What is written to shards comes back, folders are whole or refused, writing is repeatable.
#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file_system.h"
#include "core/sha256.h"
#include "data/document_statistics.h"
#include "data/preview.h"
#include "data/shard_folder.h"
#include "tests/data/data_support.h"

namespace tessera::data {
namespace {

std::vector<std::int32_t> all_tokens(const std::string& path) {
  const ShardFolder folder = open_shard_folder(path);
  std::vector<std::int32_t> all;
  for (std::size_t i = 0; i < folder.manifest.shards.size(); ++i) {
    ShardReader shard = open_shard(folder, i);
    for (std::int64_t c = 0; c < shard.chunks(); ++c) {
      std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.chunk_size(c)));
      shard.read_chunk(c, ids);
      all.insert(all.end(), ids.begin(), ids.end());
    }
  }
  return all;
}

struct Sizes {
  std::int64_t vocab, documents, longest, shard_tokens, chunk_tokens;
};

class RoundTrip : public ::testing::TestWithParam<Sizes> {};

TEST_P(RoundTrip, TokensAndIndexComeBack) {
  const Sizes p = GetParam();
  const std::string path = scratch() + "/out";
  const Documents documents = made_documents(p.documents, p.longest, p.vocab, 1);
  const ShardManifest manifest =
      write_folder(path, documents, plain_kind(p.vocab), {p.shard_tokens, p.chunk_tokens, false});
  EXPECT_EQ(all_tokens(path), joined(documents));
  const ShardFolder folder = open_shard_folder(path);
  EXPECT_EQ(folder.manifest.to_json(), manifest.to_json());
  EXPECT_EQ(folder.manifest.totals().tokens, static_cast<std::int64_t>(joined(documents).size()));
  EXPECT_EQ(folder.manifest.totals().text_bytes, folder.manifest.totals().tokens);
  EXPECT_EQ(verify_shards(path), std::vector<std::string>{});

  // No document is longer than a shard here, so none is cut and every one is found by its offsets.
  std::size_t document = 0;
  for (std::size_t i = 0; i < folder.manifest.shards.size(); ++i) {
    ShardReader shard = open_shard(folder, i);
    EXPECT_LE(shard.counts().tokens, p.shard_tokens);
    std::vector<std::int64_t> starts(static_cast<std::size_t>(shard.counts().documents) + 1);
    shard.read_documents(0, starts);
    std::vector<std::int64_t> bytes(static_cast<std::size_t>(shard.counts().documents));
    shard.read_text_bytes(0, bytes);
    for (std::size_t d = 0; d + 1 < starts.size(); ++d, ++document) {
      ASSERT_EQ(starts[d + 1] - starts[d], static_cast<std::int64_t>(documents[document].size()));
      ASSERT_EQ(bytes[d], starts[d + 1] - starts[d]);
    }
  }
  EXPECT_EQ(document, documents.size());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, RoundTrip,
    ::testing::Values(Sizes{257, 40, 71, 1 << 20, 8192}, Sizes{65536, 500, 229, 1009, 127},
                      Sizes{65537, 500, 229, 1009, 127}, Sizes{1 << 30, 30, 5000, 9973, 541},
                      Sizes{3, 3000, 2, 100, 7}, Sizes{50304, 20, 40000, 100000, 8192}),
    [](const auto& shape) {
      return "vocab" + std::to_string(shape.param.vocab) + "_shard" +
             std::to_string(shape.param.shard_tokens) + "_chunk" +
             std::to_string(shape.param.chunk_tokens);
    });

TEST(ShardFolder, ADocumentLongerThanAShardIsCut) {
  const std::string path = scratch() + "/out";
  Documents documents = {{1, 2}, std::vector<std::int32_t>(25), {3}};
  for (int i = 0; i < 25; ++i) documents[1][static_cast<std::size_t>(i)] = 10 + i;
  const ShardManifest manifest = write_folder(path, documents, plain_kind(99), {10, 4, false});
  std::vector<std::int64_t> tokens;
  for (const auto& shard : manifest.shards) tokens.push_back(shard.counts.tokens);
  EXPECT_EQ(tokens, (std::vector<std::int64_t>{2, 10, 10, 6}));
  EXPECT_EQ(manifest.totals().documents, 5);  // the long one in three pieces
  EXPECT_EQ(manifest.totals().text_bytes, 28);
  EXPECT_EQ(all_tokens(path), joined(documents));
}

TEST(ShardFolder, TheSameDocumentsGiveTheSameBytes) {
  const std::string base = scratch();
  const Documents documents = made_documents(50, 100, 300, 4);
  const auto a = write_folder(base + "/a", documents, plain_kind(300), {700, 64, false});
  ::usleep(1100000);  // HDF5 would otherwise record another second
  const auto b = write_folder(base + "/b", documents, plain_kind(300), {700, 64, false});
  EXPECT_EQ(a.to_json(), b.to_json());
  EXPECT_GT(a.shards.size(), 2u);
}

TEST(ShardFolder, EmptyDocumentsAreKept) {
  const std::string path = scratch() + "/out";
  const auto manifest = write_folder(path, {{}, {5}, {}, {}}, plain_kind(9));
  EXPECT_EQ(manifest.totals().documents, 4);
  EXPECT_EQ(all_tokens(path), (std::vector<std::int32_t>{5}));
}

TEST(ShardFolder, WithoutTokensNothingIsLeft) {
  const std::string path = scratch() + "/out";
  expect_error(Category::data, {path, "no token"},
               [&] { write_folder(path, {{}}, plain_kind(9)); });
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(ShardFolder, AFinishedFolderIsReplacedByForceAlone) {
  const std::string path = scratch() + "/out";
  write_folder(path, made_documents(20, 50, 99, 1), plain_kind(99), {100, 32, false});
  write_file(path + "/notes.txt", "mine");
  const std::string before = read_file(path + "/dataset.json");
  expect_error(Category::config, {path, "--force"},
               [&] { write_folder(path, {{1}}, plain_kind(99)); });
  EXPECT_EQ(read_file(path + "/dataset.json"), before);
  EXPECT_TRUE(verify_shards(path).empty());
  write_folder(path, {{1}}, plain_kind(99), {100, 32, true});
  EXPECT_EQ(all_tokens(path), (std::vector<std::int32_t>{1}));
  EXPECT_EQ(read_file(path + "/notes.txt"), "mine");
  EXPECT_EQ(FileSystem::posix().list(path),
            (std::vector<std::string>{"dataset.json", "notes.txt", "shard-00000.h5"}));
}

TEST(ShardFolder, AnInterruptedWriterLeavesNothingThatOpens) {
  const std::string path = scratch() + "/out";
  const pid_t child = ::fork();
  if (child == 0) {
    ShardFolderWriter writer(path, plain_kind(99), "", {100, 32, false});
    for (int i = 0; i < 20; ++i) {
      writer.begin_document(60);
      writer.append(std::vector<std::int32_t>(60, i));
      writer.end_document(60);
    }
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_GT(FileSystem::posix().list(path).size(), 5u);
  expect_error(Category::data, {path, "not a finished shard folder"},
               [&] { open_shard_folder(path); });
  // The next writer takes the folder over and cleans it.
  write_folder(path, {{7}}, plain_kind(99));
  EXPECT_EQ(FileSystem::posix().list(path),
            (std::vector<std::string>{"dataset.json", "shard-00000.h5"}));
}

TEST(ShardFolder, AFailingWriterCleansUp) {
  const std::string path = scratch() + "/out";
  expect_error(Category::data, {"shard-00001.h5", "token id 99", "0..98"}, [&] {
    write_folder(path, {{1, 2, 3}, {4, 99}}, plain_kind(99), {4, 32, false});
  });
  EXPECT_FALSE(std::filesystem::exists(path));
  expect_error(Category::data, {"token id -1"},
               [&] { write_folder(path, {{-1}}, plain_kind(99)); });
}

// A disk that is full: the system refuses to let a file grow.
TEST(ShardFolder, AFullDiskIsAnIoErrorAndLeavesNothing) {
  const std::string path = scratch() + "/out";
  for (const rlim_t limit : {100, 5000, 100000}) {
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit most{limit, limit};
      ::setrlimit(RLIMIT_FSIZE, &most);
      int code = 1;
      try {
        write_folder(path, made_documents(200, 4000, 60000, 1), plain_kind(60000));
      } catch (const Error& error) {
        const bool named = std::string(error.what()).find(path) != std::string::npos;
        code = error.category() == Category::io && named ? 0 : 2;
      }
      std::exit(code);  // with HDF5's own clean-up, which must end too
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << status;
    EXPECT_EQ(WEXITSTATUS(status), 0) << "limit " << limit;
    EXPECT_FALSE(std::filesystem::exists(path));
  }
}

TEST(ShardFolder, OneWriterAtATime) {
  const std::string path = scratch() + "/out";
  const ShardFolderWriter first(path, plain_kind(99), "");
  expect_error(Category::config, {path, "another process"},
               [&] { ShardFolderWriter(path, plain_kind(99), ""); });
}

TEST(ShardFolder, TheTokenizerIsKeptAndChecked) {
  const std::string path = scratch() + "/out", json = "{\"type\": \"bytes\"}";
  const ShardKind kind{257, 256, sha256(json)};
  write_folder(path, {{1, 256}}, kind, {}, json);
  EXPECT_EQ(open_shard_folder(path).tokenizer_json, json);
  write_file(path + "/tokenizer.json", json + " ");
  expect_error(Category::data, {path + "/tokenizer.json", "SHA-256"},
               [&] { open_shard_folder(path); });
  std::filesystem::remove(path + "/tokenizer.json");
  expect_error(Category::data, {path + "/tokenizer.json", "missing"},
               [&] { open_shard_folder(path); });
}

TEST(ShardFolder, AnUnwritablePlaceIsAnIoError) {
  const std::string base = scratch();
  write_file(base + "/file", "x");
  expect_error(Category::io, {base + "/file"},
               [&] { write_folder(base + "/file/out", {{1}}, plain_kind(9)); });
}

// Written by the first version of the format; every later version must read it.
TEST(ShardFolder, TheFrozenFolderLoads) {
  const std::string path = TESSERA_SOURCE_DIR "/tests/data/fixtures/shards-v1";
  EXPECT_EQ(verify_shards(path), std::vector<std::string>{});
  const ShardFolder folder = open_shard_folder(path);
  EXPECT_EQ(folder.manifest.kind.vocab_size, 257);
  EXPECT_EQ(folder.manifest.kind.end_of_text, 256);
  EXPECT_EQ(folder.tokenizer_json, "{\"type\": \"bytes\"}");
  ASSERT_EQ(folder.manifest.shards.size(), 3u);
  std::string text;
  std::int64_t ends = 0;
  for (const std::int32_t id : all_tokens(path)) {
    if (id < 256) text += static_cast<char>(id);
    ends += id == 256;
  }
  EXPECT_EQ(ends, folder.manifest.totals().documents);
  EXPECT_EQ(sha256(text), "795e0ba95ded771909e2076856d52a2d169b84bbaebcc787ca054537a1709e63");
}

TEST(Preview, FirstDocumentsAcrossShards) {
  const std::string path = TESSERA_SOURCE_DIR "/tests/data/fixtures/shards-v1";
  const auto previews = preview_documents(open_shard_folder(path), 5, 20);
  ASSERT_EQ(previews.size(), 5u);
  EXPECT_EQ(previews[0].text, "A shard holds docume");
  EXPECT_EQ(previews[2].tokens, 1);
  EXPECT_EQ(previews[2].ids, (std::vector<std::int32_t>{256}));
  EXPECT_EQ(previews[3].shard, "shard-00001.h5");
  EXPECT_EQ(previews[4].text, "Line\nbreaks\tand\ttabs");
  EXPECT_EQ(preview_documents(open_shard_folder(path), 100, 0).size(), 6u);

  const std::string plain = scratch() + "/plain";
  write_folder(plain, {{1, 2, 3, 4, 5}}, plain_kind(9), {100, 2, false});
  const auto ids = preview_documents(open_shard_folder(plain), 1, 3);
  EXPECT_EQ(ids[0].ids, (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(ids[0].text, "");
}

TEST(DocumentStatistics, QuantilesAreExact) {
  DocumentStatistics none;
  EXPECT_EQ(none.quantile(0.5), 0);
  EXPECT_EQ(none.mean(), 0);
  for (const std::int64_t count : {1, 2, 9, 100, 1001}) {
    DocumentStatistics statistics;
    std::vector<std::int64_t> lengths;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t length = i % 7 == 3 ? 300000 + i * 37 : i * 7919 % 5000;
      lengths.push_back(length);
      statistics.add(length);
    }
    std::sort(lengths.begin(), lengths.end());
    EXPECT_EQ(statistics.quantile(0), lengths.front());
    EXPECT_EQ(statistics.quantile(1), lengths.back());
    for (const double share : {0.01, 0.5, 0.9, 0.99}) {
      const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(count)));
      EXPECT_EQ(statistics.quantile(share), lengths[rank - 1]) << count << " " << share;
    }
  }
}

TEST(DocumentStatistics, ReadsAShardsIndex) {
  const std::string path = scratch() + "/out";
  Documents documents = made_documents(500, 60, 99, 1);
  write_folder(path, documents, plain_kind(99), {4000, 32, false});
  const ShardFolder folder = open_shard_folder(path);
  DocumentStatistics statistics;
  for (std::size_t i = 0; i < folder.manifest.shards.size(); ++i) {
    ShardReader shard = open_shard(folder, i);
    statistics.add(shard);
  }
  EXPECT_EQ(statistics.documents(), 500);
  EXPECT_EQ(statistics.tokens(), folder.manifest.totals().tokens);
  std::sort(documents.begin(), documents.end(),
            [](const auto& a, const auto& b) { return a.size() < b.size(); });
  EXPECT_EQ(statistics.quantile(0.5), static_cast<std::int64_t>(documents[249].size()));
}

}  // namespace
}  // namespace tessera::data
