// Text files become the promised stream of documents, the same whatever the threads; bad input is
// named; nothing half opens.
#include "data/prepare.h"

#include <csignal>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file_system.h"
#include "core/json.h"
#include "core/random.h"
#include "data/document_reader.h"
#include "data/shard_folder.h"
#include "tests/data/compression.h"
#include "tests/data/data_support.h"
#include "tests/data/prepare_support.h"

namespace tessera::data {
namespace {

constexpr std::int32_t kEnd = 256;  // of the bytes tokenizer

// The documents of a folder made with the bytes tokenizer.
std::vector<std::string> documents_of(const std::string& path) {
  EXPECT_EQ(verify_shards(path), std::vector<std::string>{});
  const ShardFolder folder = open_shard_folder(path);
  std::vector<std::string> documents;
  for (std::size_t i = 0; i < folder.manifest.shards.size(); ++i) {
    ShardReader shard = open_shard(folder, i);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.counts().tokens));
    for (std::int64_t c = 0; c < shard.chunks(); ++c)
      shard.read_chunk(c, std::span(ids).subspan(static_cast<std::size_t>(c * shard.chunk_tokens()),
                                                 static_cast<std::size_t>(shard.chunk_size(c))));
    std::vector<std::int64_t> starts(static_cast<std::size_t>(shard.counts().documents) + 1);
    shard.read_documents(0, starts);
    for (std::size_t d = 0; d + 1 < starts.size(); ++d) {
      std::string text;
      for (std::int64_t t = starts[d]; t < starts[d + 1] - 1; ++t)
        text += static_cast<char>(ids[static_cast<std::size_t>(t)]);
      EXPECT_EQ(ids[static_cast<std::size_t>(starts[d + 1] - 1)], kEnd);
      documents.push_back(text);
    }
  }
  return documents;
}

TEST(Prepare, AllTextFormatsGiveTheSameDocuments) {
  const std::string base = scratch();
  const std::vector<std::string> texts = {"first", "zweiter: äöü 語 🙂", "line\nbreaks",
                                          "last"};
  write_file(base + "/a.jsonl", json_lines(texts));
  write_file(base + "/a.jsonl.zst", zstd(json_lines(texts)));
  write_file(base + "/a.jsonl.gz", gzip(json_lines(texts)));
  for (std::size_t i = 0; i < texts.size(); ++i)
    write_file(base + "/texts/" + std::to_string(i) + (i % 2 ? ".txt.zst" : ".txt"),
               i % 2 ? zstd(texts[i]) : texts[i]);
  int n = 0;
  for (const char* input : {"/a.jsonl", "/a.jsonl.zst", "/a.jsonl.gz", "/texts"}) {
    const std::string out = base + "/out" + std::to_string(n++);
    const PrepareReport report = prepare(bytes_options({base + input}, out));
    EXPECT_EQ(documents_of(out), texts) << input;
    std::int64_t bytes = 0;
    for (const auto& text : texts) bytes += static_cast<std::int64_t>(text.size());
    EXPECT_EQ(report.totals(), (ShardCounts{bytes + 4, 4, bytes}));
    ASSERT_EQ(report.parts.size(), 1u);
    EXPECT_EQ(report.parts[0].path, out);
    EXPECT_EQ(report.empty_documents + report.repaired_documents, 0);
  }
  EXPECT_EQ(read_file(base + "/out0/dataset.json"), read_file(base + "/out3/dataset.json"));
}

TEST(Prepare, TheResultDoesNotDependOnThreads) {
  const std::string base = scratch();
  const auto texts = made_texts(3000, 4000);  // several batches
  write_file(base + "/a.jsonl", json_lines(texts));
  std::string first;
  for (const std::int64_t threads : {1, 2, 7}) {
    PrepareOptions options = bytes_options({base + "/a.jsonl"}, base + "/out");
    options.threads = threads;
    options.shard_tokens = 1 << 20;
    options.force = true;
    std::int64_t told = 0;
    options.on_progress = [&](const PrepareProgress& p) {
      EXPECT_GE(p.bytes_done, told);
      EXPECT_LE(p.bytes_done, p.bytes_total);
      told = p.bytes_done;
    };
    const PrepareReport report = prepare(options);
    EXPECT_EQ(told, report.input_bytes);
    EXPECT_GT(report.parts[0].shards, 3);
    const std::string manifest = read_file(base + "/out/dataset.json");
    if (first.empty()) first = manifest;
    EXPECT_EQ(manifest, first);
  }
  EXPECT_EQ(documents_of(base + "/out"), texts);
}

TEST(Prepare, EmptyAndRepairedDocumentsAreCounted) {
  const std::string base = scratch();
  write_file(base + "/a.jsonl",
             "\xEF\xBB\xBF{\"text\":\"\"}\n\n  \r\n{\"text\":\"a\xFF\"}\r\n"
             "{\"text\":\"\\ud800b\"}\n{\"text\":\"c\\u0000d\"}");
  write_file(base + "/b.txt", "");
  write_file(base + "/c.txt", std::string("\xEF\xBB\xBFnul \0 and \xC3(", 15));
  const PrepareReport report =
      prepare(bytes_options({base + "/a.jsonl", base + "/b.txt", base + "/c.txt"}, base + "/out"));
  EXPECT_EQ(report.empty_documents, 2);
  EXPECT_EQ(report.repaired_documents, 3);
  EXPECT_EQ(documents_of(base + "/out"),
            (std::vector<std::string>{"a\uFFFD", "\uFFFDb", std::string("c\0d", 3),
                                      std::string("nul \0 and \xEF\xBF\xBD(", 14)}));
}

TEST(Prepare, PartsByHashKeepEveryDocumentOnce) {
  const std::string base = scratch();
  std::vector<std::string> texts;
  for (int i = 0; i < 2000; ++i) texts.push_back(std::to_string(i));
  write_file(base + "/a.jsonl", json_lines(texts));
  PrepareOptions options = bytes_options({base + "/a.jsonl"}, base + "/out");
  options.valid_fraction = 0.1;
  const PrepareReport report = prepare(options);
  ASSERT_EQ(report.parts.size(), 2u);
  EXPECT_EQ(report.parts[0].path, base + "/out/train");
  EXPECT_EQ(report.parts[1].path, base + "/out/valid");
  const auto train = documents_of(base + "/out/train"), valid = documents_of(base + "/out/valid");
  EXPECT_NEAR(static_cast<double>(valid.size()), 200, 60);
  std::vector<std::string> merged;
  std::merge(train.begin(), train.end(), valid.begin(), valid.end(), std::back_inserter(merged),
             [](const auto& a, const auto& b) { return std::stoi(a) < std::stoi(b); });
  EXPECT_EQ(merged, texts);
  // The same seed chooses the same documents, another one others.
  options.out = base + "/again";
  prepare(options);
  EXPECT_EQ(documents_of(base + "/again/valid"), valid);
  options.out = base + "/other";
  options.seed = 1;
  prepare(options);
  EXPECT_NE(documents_of(base + "/other/valid"), valid);
}

TEST(Prepare, ValidationInputsGoToTheirPart) {
  const std::string base = scratch();
  write_file(base + "/a.jsonl", json_lines({"a", "b"}));
  write_file(base + "/v.txt", "v");
  PrepareOptions options = bytes_options({base + "/a.jsonl"}, base + "/out");
  options.valid_inputs = {base + "/v.txt"};
  prepare(options);
  EXPECT_EQ(documents_of(base + "/out/train"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(documents_of(base + "/out/valid"), (std::vector<std::string>{"v"}));
  EXPECT_FALSE(is_shard_folder(base + "/out"));
  expect_error(Category::config, {base + "/out/train", "--force"}, [&] { prepare(options); });
  options.force = true;
  prepare(options);
  EXPECT_EQ(documents_of(base + "/out/valid"), (std::vector<std::string>{"v"}));
}

TEST(Prepare, AnotherTextKey) {
  const std::string base = scratch();
  write_file(base + "/a.jsonl", "{\"content\":\"yes\",\"text\":\"no\"}\n");
  PrepareOptions options = bytes_options({base + "/a.jsonl"}, base + "/out");
  options.text_key = "content";
  prepare(options);
  EXPECT_EQ(documents_of(base + "/out"), (std::vector<std::string>{"yes"}));
}

class BadText : public ::testing::Test {
 protected:
  // Preparing one file fails with these words and leaves nothing behind.
  void expect_bad(const std::string& name, const std::string& bytes,
                  const std::vector<std::string>& words) {
    const std::string path = base_ + "/" + name;
    write_file(path, bytes);
    std::vector<std::string> all = words;
    all.push_back(path);
    expect_error(Category::data, all, [&] { prepare(bytes_options({path}, base_ + "/out")); });
    EXPECT_FALSE(std::filesystem::exists(base_ + "/out"));
  }
  std::string base_ = scratch();
};

TEST_F(BadText, FileAndLineAreNamed) {
  const std::string good = "{\"text\":\"good\"}\n";
  expect_bad("a.jsonl", good + good + "{\"text\":\"cut", {"line 3", "not valid JSON"});
  expect_bad("a.jsonl", good + "\n\n{\"txt\":\"x\"}\n" + good, {"line 4", "\"text\""});
  expect_bad("a.jsonl", good + "{\"text\":[1]}\n", {"line 2", "a list", "expected a string"});
  expect_bad("a.jsonl", good + "plain text\n", {"line 2", "column 1"});
  expect_bad("a.jsonl", good + std::string("{\"text\":\"a\0\"}", 13), {"line 2", "control"});
  expect_bad("a.jsonl.zst", zstd(good + "oops\n"), {"line 2", "column 1"});
  expect_bad("a.jsonl.gz", gzip(good + "oops\n"), {"line 2", "column 1"});
}

TEST_F(BadText, DamagedCompression) {
  const std::string lines = json_lines(made_texts(3000, 300));
  expect_bad("a.jsonl.zst", zstd(lines).substr(0, 20000), {"truncated"});
  expect_bad("a.jsonl.gz", gzip(lines).substr(0, 20000), {"truncated"});
  expect_bad("a.txt.gz", "plain", {"gzip"});
}

TEST_F(BadText, TheFirstErrorOfTheInputIsReported) {
  // Every batch has bad lines; whichever thread is first, line 2 is named.
  std::string lines = "{\"text\":\"good\"}\n";
  for (int i = 0; i < 30000; ++i) lines += "{\"text\":" + std::string(100, ' ') + "7}\n";
  for (int i = 0; i < 5; ++i) expect_bad("a.jsonl", lines, {"line 2:"});
}

TEST_F(BadText, ALineBeyondTheLimit) {
  std::string line = "{\"text\":\"";
  line.resize(kLongestLine + 1, 'x');
  expect_bad("a.jsonl", line, {"line 1", "268435456"});
}

TEST_F(BadText, NothingToWrite) {
  const std::string path = base_ + "/a.jsonl";
  write_file(path, "{\"text\":\"\"}\n\n");
  expect_error(Category::data, {base_ + "/out", "no token"},
               [&] { prepare(bytes_options({path}, base_ + "/out")); });
  write_file(path, "{\"text\":\"one\"}\n");
  PrepareOptions options = bytes_options({path}, base_ + "/out");
  options.valid_fraction = 1e-6;
  expect_error(Category::data, {base_ + "/out", "--valid-fraction", "raise"},
               [&] { prepare(options); });
  EXPECT_FALSE(is_shard_folder(base_ + "/out/train"));
}

TEST(Prepare, RefusesOptionsThatMakeNoSense) {
  const std::string base = scratch();
  write_file(base + "/a.jsonl", json_lines({"a"}));
  write_file(base + "/b.bin", "ab");
  const PrepareOptions good = bytes_options({base + "/a.jsonl"}, base + "/out");
  const auto refused = [&](const std::vector<std::string>& words, auto change) {
    PrepareOptions options = good;
    change(options);
    expect_error(Category::config, words, [&] { prepare(options); });
    EXPECT_FALSE(std::filesystem::exists(base + "/out"));
  };
  refused({"no input"}, [](auto& o) { o.inputs.clear(); });
  refused({"--out"}, [](auto& o) { o.out = ""; });
  refused({"--tokenizer"}, [](auto& o) { o.tokenizer = ""; });
  refused({"--valid-fraction"}, [](auto& o) { o.valid_fraction = 1; });
  refused({"--valid-fraction"}, [](auto& o) { o.valid_fraction = -0.1; });
  refused({"exclude"}, [&](auto& o) {
    o.valid_fraction = 0.5;
    o.valid_inputs = {base + "/a.jsonl"};
  });
  refused({"together"}, [&](auto& o) { o.inputs.push_back(base + "/b.bin"); });
  refused({"--vocab", "is text"}, [](auto& o) { o.import.vocab_size = 7; });
}

TEST(Prepare, AnInterruptLeavesNothingThatOpens) {
  const std::string base = scratch();
  write_file(base + "/a.jsonl", json_lines(made_texts(5000, 4000)));
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGINT, SIG_DFL);
    PrepareOptions options = bytes_options({base + "/a.jsonl"}, base + "/out");
    options.shard_tokens = 1 << 20;
    options.valid_fraction = 0.3;
    options.on_progress = [](const PrepareProgress& p) {
      if (p.counts.tokens > 5 << 20) ::raise(SIGINT);
    };
    prepare(options);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
  for (const char* part : {"/out", "/out/train", "/out/valid"})
    expect_error(Category::data, {"not a finished shard folder"},
                 [&] { open_shard_folder(base + part); });
  EXPECT_GT(FileSystem::posix().list(base + "/out/train").size(), 2u);
  // The next run needs no --force and gives what an undisturbed one gives.
  PrepareOptions options = bytes_options({base + "/a.jsonl"}, base + "/out");
  options.valid_fraction = 0.3;
  prepare(options);
  EXPECT_EQ(documents_of(base + "/out/train").size() + documents_of(base + "/out/valid").size(),
            5000u);
}

}  // namespace
}  // namespace tessera::data
