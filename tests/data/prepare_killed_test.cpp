// A `prepare` that is killed goes on behind its finished shards, to the bytes of an unbroken one;
// and starts over where anything differs.
#include <csignal>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/shard_folder.h"
#include "tests/data/data_support.h"
#include "tests/data/prepare_support.h"

namespace tessera::data {
namespace {

// Runs in a child that is killed once `tokens` new ones are written; whether it came to its end.
bool finishes_before(const PrepareOptions& given, std::int64_t tokens) {
  const pid_t child = ::fork();
  if (child == 0) {
    PrepareOptions options = given;
    std::int64_t start = -1;
    options.on_progress = [&](const PrepareProgress& p) {
      if (start < 0) start = p.counts.tokens;
      if (p.counts.tokens - start > tokens) ::raise(SIGKILL);
    };
    prepare(options);
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) || WTERMSIG(status) == SIGKILL);
  return WIFEXITED(status);
}

TEST(PrepareKilled, GoesOnToTheSameBytes) {
  const std::string base = scratch();
  // Some documents are longer than a shard, and cut.
  std::vector<std::string> texts = made_texts(3000, 4000);
  for (std::size_t i = 100; i < texts.size(); i += 700) texts[i] += std::string(500000, 'x');
  texts[50].clear();
  write_file(base + "/a.jsonl", json_lines(texts));
  PrepareOptions options = bytes_options({base + "/a.jsonl"}, base + "/whole");
  options.shard_tokens = 200000;
  options.valid_fraction = 0.2;
  const PrepareReport whole = prepare(options);
  EXPECT_EQ(whole.kept_tokens, 0);
  options.out = base + "/killed";
  for (const std::int64_t tokens : {0, 300000, 1000000, 1700000, 2300000, 3000000}) {
    std::filesystem::remove_all(options.out);
    int kills = 0;
    for (std::int64_t step = tokens; !finishes_before(options, step); step += 700000) ++kills;
    EXPECT_GE(kills, 1) << tokens;
    EXPECT_EQ(tree_of(options.out), tree_of(base + "/whole")) << tokens;
  }
  // What was finished is kept, and counts of documents are those of all inputs.
  std::filesystem::remove_all(options.out);
  ASSERT_FALSE(finishes_before(options, 3000000));
  const PrepareReport rest = prepare(options);
  EXPECT_GT(rest.kept_tokens, 2000000);
  EXPECT_EQ(rest.empty_documents, 1);
  EXPECT_EQ(rest.totals(), whole.totals());
}

TEST(PrepareKilled, OtherInputsOptionsOrDamagedShardsStartOver) {
  const std::string base = scratch();
  write_file(base + "/a.jsonl", json_lines(made_texts(1000, 4000)));
  PrepareOptions options = bytes_options({base + "/a.jsonl"}, base + "/out");
  options.shard_tokens = 200000;
  const auto left_over = [&] {
    std::filesystem::remove_all(options.out);
    ASSERT_FALSE(finishes_before(options, 1100000));
    ASSERT_TRUE(std::filesystem::exists(options.out + "/prepare.json"));
  };
  left_over();
  PrepareOptions other = options;
  other.shard_tokens = 200001;
  EXPECT_EQ(prepare(other).kept_tokens, 0);
  const std::vector<std::function<void()>> damages = {
      [&] { write_file(base + "/a.jsonl", read_file(base + "/a.jsonl") + "{\"text\": \"b\"}\n"); },
      [&] {
        const std::string shard = options.out + "/shard-00002.h5";
        std::string bytes = read_file(shard);
        bytes[bytes.size() / 2] ^= 1;
        write_file(shard, bytes);
      },
      [&] { std::filesystem::remove(options.out + "/shard-00000.h5"); },
      [&] { write_file(options.out + "/prepare.json", "{\"format\": 3}"); },
      [&] { write_file(options.out + "/prepare.json", "[]"); },
      [&] { write_file(options.out + "/prepare.json", ""); }};
  for (const auto& damage : damages) {
    left_over();
    damage();
    EXPECT_EQ(prepare(options).kept_tokens, 0);
    EXPECT_EQ(verify_shards(options.out), std::vector<std::string>{});
    EXPECT_FALSE(std::filesystem::exists(options.out + "/prepare.json"));
  }
}
}  // namespace
}  // namespace tessera::data
