// Samples are the stream cut in pieces, in the promised order; blends mix; digests tell data apart.
#include "data/token_source.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "core/sha256.h"
#include "core/targets.h"
#include "data/sample_order.h"
#include "data/shard_pool.h"
#include "tests/data/data_support.h"

namespace tessera::data {
namespace {

const char* const kBytesJson = "{\"type\": \"bytes\"}";

std::vector<std::int32_t> read(TokenSource& source, std::int64_t position) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(source.context()), -7), targets = ids;
  source.read(position, ids, targets);
  EXPECT_EQ(ids, targets);
  return ids;
}

std::vector<std::int32_t> piece(const std::vector<std::int32_t>& stream, std::int64_t sample,
                                std::int64_t context) {
  const auto begin = stream.begin() + sample * context;
  return {begin, begin + context};
}

SourceOptions in_order(std::int64_t context) {
  return {context, 1, false, false};
}

TEST(TokenSource, SamplesAreTheStreamCutInPieces) {
  const std::string path = scratch() + "/a";
  const Documents documents = made_documents(300, 60, 500, 2);
  const auto stream = joined(documents);
  // Samples cross chunks and shards of odd sizes.
  write_folder(path, documents, plain_kind(500), {611, 37, false});
  for (const std::int64_t context : {1, 7, 128, 700}) {
    const auto source = open_tokens({{path, 1}}, in_order(context));
    const std::int64_t n = static_cast<std::int64_t>(stream.size()) / context;
    ASSERT_EQ(source->samples(), n);
    EXPECT_EQ(source->tokens(), static_cast<std::int64_t>(stream.size()));
    EXPECT_EQ(source->vocab_size(), 500);
    EXPECT_EQ(source->end_of_text(), 499);
    for (std::int64_t k = 0; k < n; ++k) ASSERT_EQ(read(*source, k), piece(stream, k, context));
    EXPECT_EQ(read(*source, n + 1), piece(stream, 1 % n, context));  // goes round
  }
}

TEST(TokenSource, ShufflingFollowsTheSampleOrder) {
  const std::string path = scratch() + "/a";
  const Documents documents = made_documents(100, 60, 500, 3);
  const auto stream = joined(documents);
  write_folder(path, documents, plain_kind(500), {611, 37, false});
  const auto source = open_tokens({{path, 1}}, {16, 77, true, false});
  const SampleOrder order(77, source->samples());
  for (std::int64_t p = 0; p < 2 * source->samples(); ++p)
    ASSERT_EQ(read(*source, p), piece(stream, order.at(p), 16));
}

TEST(TokenSource, ManyShardsNeedFewOpenFiles) {
  const std::string path = scratch() + "/a";
  const Documents documents = made_documents(120, 20, 500, 3);
  const auto manifest = write_folder(path, documents, plain_kind(500), {10, 5, false});
  ASSERT_GT(manifest.shards.size(), 2 * ShardPool::kOpenShards);
  const auto stream = joined(documents);
  const auto source = open_tokens({{path, 1}}, {4, 5, true, false});
  const auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator());
  };
  const auto before = open_files();
  const SampleOrder order(5, source->samples());
  for (std::int64_t p = 0; p < source->samples(); ++p)
    ASSERT_EQ(read(*source, p), piece(stream, order.at(p), 4));
  EXPECT_LE(open_files(), before + 1);
  EXPECT_LE(before, static_cast<std::ptrdiff_t>(ShardPool::kOpenShards) + 20);
}

TEST(TokenSource, ManyThreadsReadTheSame) {
  const std::string path = scratch() + "/a";
  const Documents documents = made_documents(100, 60, 500, 3);
  const auto stream = joined(documents);
  write_folder(path, documents, plain_kind(500), {100, 37, false});
  const auto source = open_tokens({{path, 1}}, in_order(16));
  std::atomic<std::int64_t> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::vector<std::int32_t> ids(16), targets(16);
      for (std::int64_t i = 0; i < 500; ++i) {
        const std::int64_t k = (i * 31 + t * 17) % source->samples();
        source->read(k, ids, targets);
        wrong += ids != piece(stream, k, 16);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(TokenSource, ABlendMixesByWeight) {
  const std::string base = scratch();
  // Every token of folder i is i, so that a sample tells where it is from.
  const std::vector<std::int64_t> tokens = {4000, 3000, 1000};
  std::vector<SourceSpec> specs;
  const std::vector<double> weights = {0.5, 0.3, 0.2};
  for (std::int32_t i = 0; i < 3; ++i) {
    const std::string path = base + "/" + std::to_string(i);
    const auto k = static_cast<std::size_t>(i);
    write_folder(path, {std::vector<std::int32_t>(static_cast<std::size_t>(tokens[k]), i)},
                 plain_kind(9));
    specs.push_back({path, weights[k]});
  }
  const auto source = open_tokens(specs, {10, 3, true, false});
  EXPECT_EQ(source->tokens(), 8000);
  // 100 samples of the third at 0.2 last to about position 500; the others have more.
  EXPECT_GE(source->samples(), 495);
  EXPECT_LE(source->samples(), 505);
  std::map<std::int32_t, double> seen;
  for (std::int64_t p = 0; p < source->samples(); ++p) {
    const auto ids = read(*source, p);
    EXPECT_EQ(ids.front(), ids.back());
    seen[ids[0]] += 1;
    for (std::int32_t i = 0; i < 3; ++i)
      ASSERT_LT(std::abs(seen[i] - weights[static_cast<std::size_t>(i)] * double(p + 1)), 1.0);
  }
  EXPECT_EQ(seen[2], 100);
}

TEST(TokenSource, ABlendWalksEachSourceOnceAnEpoch) {
  const std::string base = scratch();
  std::vector<SourceSpec> specs;
  for (std::int32_t i = 0; i < 2; ++i) {
    std::vector<std::int32_t> ids;
    for (std::int32_t t = 0; t < 50; ++t) ids.push_back(100 * i + t);
    specs.push_back({base + "/" + std::to_string(i), 1});
    write_folder(specs.back().path, {ids}, plain_kind(1000));
  }
  const auto source = open_tokens(specs, {1, 3, true, false});
  EXPECT_EQ(source->samples(), 99);  // the first of the two is used up one position earlier
  std::vector<std::int32_t> order[2];
  std::map<std::int32_t, int> seen;
  for (std::int64_t p = 0; p < 100; ++p) {
    const std::int32_t id = read(*source, p)[0];
    ++seen[id];
    order[id / 100].push_back(id % 100);
  }
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_NE(order[0], order[1]);  // equally long sources do not walk in step
}

TEST(TokenSource, DigestsFollowDataContextAndWeights) {
  const std::string base = scratch();
  write_folder(base + "/a", made_documents(20, 60, 500, 3), plain_kind(500));
  write_folder(base + "/b", made_documents(20, 60, 500, 4), plain_kind(500));
  std::filesystem::copy(base + "/a", base + "/moved");
  const auto digest = [&](const std::vector<SourceSpec>& specs, const SourceOptions& options) {
    return open_tokens(specs, options)->digest();
  };
  const std::string a = digest({{base + "/a", 1}}, in_order(8));
  EXPECT_EQ(a.size(), 64u);
  EXPECT_EQ(a, digest({{base + "/moved", 1}}, in_order(8)));
  EXPECT_EQ(a, digest({{base + "/a", 0.5}}, in_order(8)));  // one source: the weight has no effect
  EXPECT_NE(a, digest({{base + "/b", 1}}, in_order(8)));
  EXPECT_NE(a, digest({{base + "/a", 1}}, in_order(9)));
  const std::string ab = digest({{base + "/a", 1}, {base + "/b", 1}}, in_order(8));
  EXPECT_NE(ab, digest({{base + "/b", 1}, {base + "/a", 1}}, in_order(8)));
  EXPECT_NE(ab, digest({{base + "/a", 2}, {base + "/b", 1}}, in_order(8)));
  EXPECT_EQ(ab, digest({{base + "/a", 3}, {base + "/b", 3}}, in_order(8)));
}

TEST(TokenSource, TextBytesOfTokens) {
  const std::string base = scratch();
  write_folder(base + "/bytes", {{104, 105, 256}}, {257, 256, sha256(kBytesJson)}, {}, kBytesJson);
  const auto source = open_tokens({{base + "/bytes", 1}}, in_order(3));
  ASSERT_EQ(source->token_bytes().size(), 257u);
  EXPECT_EQ(source->token_bytes()[104], 1);
  EXPECT_EQ(source->token_bytes()[256], 0);
  EXPECT_EQ(source->tokenizer_json(), kBytesJson);
  write_folder(base + "/ids", {{1, 2, 3}}, plain_kind(9));
  const auto imported = open_tokens({{base + "/ids", 1}}, in_order(3));
  EXPECT_EQ(imported->token_bytes(), std::vector<std::int32_t>(9));
  EXPECT_EQ(imported->tokenizer_json(), "");
}

TEST(TokenSource, RefusesUnusableLists) {
  const std::string base = scratch();
  write_folder(base + "/ids", {{1, 2, 3}}, plain_kind(9));
  write_folder(base + "/bytes", {{104, 105, 256}}, {257, 256, sha256(kBytesJson)}, {}, kBytesJson);
  expect_error(Category::config, {"no token shards"}, [&] { open_tokens({}, in_order(3)); });
  expect_error(Category::config, {"context"}, [&] {
    open_tokens({{base + "/ids", 1}}, in_order(0));
  });
  expect_error(Category::config, {"3 tokens", "model.context = 4"}, [&] {
    open_tokens({{base + "/ids", 1}}, in_order(4));
  });
  expect_error(Category::data, {base + "/none", "tessera prepare"}, [&] {
    open_tokens({{base + "/none", 1}}, in_order(3));
  });
  expect_error(Category::data, {base, "not a finished shard folder"}, [&] {
    open_tokens({{base, 1}}, in_order(3));
  });
  expect_error(Category::config, {"different tokenizers"}, [&] {
    open_tokens({{base + "/ids", 1}, {base + "/bytes", 1}}, in_order(3));
  });
  std::filesystem::create_directories(base + "/split");
  std::filesystem::rename(base + "/ids", base + "/split/train");
  expect_error(Category::data, {base + "/split/train or"}, [&] {
    open_tokens({{base + "/split", 1}}, in_order(3));
  });
}

TEST(TokenSource, BadShardsAreSkippedOnlyOnRequest) {
  const std::string path = scratch() + "/a";
  const Documents documents = {{1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}};
  write_folder(path, documents, plain_kind(9), {4, 4, false});
  const std::string whole = open_tokens({{path, 1}}, in_order(4))->digest();
  std::filesystem::resize_file(path + "/shard-00001.h5", 100);
  expect_error(Category::data, {path + "/shard-00001.h5", "100 bytes"}, [&] {
    open_tokens({{path, 1}}, in_order(4));
  });
  const auto source = open_tokens({{path, 1}}, {4, 1, false, true});
  EXPECT_EQ(source->samples(), 2);
  EXPECT_EQ(source->tokens(), 8);
  EXPECT_EQ(read(*source, 1), documents[2]);
  EXPECT_NE(source->digest(), whole);
  for (const char* name : {"/shard-00000.h5", "/shard-00002.h5"})
    std::filesystem::resize_file(path + name, 100);
  expect_error(Category::data, {path, "none of its shards"}, [&] {
    open_tokens({{path, 1}}, {4, 1, false, true});
  });
}

// Flips a bit in the `length` ids `id`, as they are stored.
void damage_tokens(const std::string& file, std::uint16_t id, std::size_t length) {
  const std::vector<std::uint16_t> marked(length, id);
  std::string bytes = read_file(file);
  const std::size_t at =
      bytes.find(std::string(reinterpret_cast<const char*>(marked.data()), 2 * length));
  ASSERT_NE(at, std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_file(file, bytes);
}

TEST(TokenSource, ABadChunkEndsTheRunOrCostsItsSamples) {
  const std::string path = scratch() + "/a";
  // Four samples a shard, two a chunk.
  Documents documents;
  for (std::int32_t i = 0; i < 12; ++i) documents.push_back(std::vector<std::int32_t>(4, i));
  write_folder(path, documents, plain_kind(99), {16, 8, false});
  const std::string digest = open_tokens({{path, 1}}, in_order(4))->digest();
  damage_tokens(path + "/shard-00001.h5", 7, 4);
  const auto strict = open_tokens({{path, 1}}, in_order(4));
  EXPECT_EQ(read(*strict, 5), documents[5]);
  expect_error(Category::data, {path + "/shard-00001.h5", "chunk 1"}, [&] { read(*strict, 6); });
  const auto lenient = open_tokens({{path, 1}}, {4, 1, false, true});
  EXPECT_EQ(lenient->digest(), digest);  // the order stays as it is
  EXPECT_EQ(lenient->samples(), 12);
  for (std::int64_t k = 0; k < 12; ++k) {
    std::vector<std::int32_t> ids(4), targets(4);
    lenient->read(k, ids, targets);
    const bool lost = k == 6 || k == 7;
    EXPECT_EQ(ids,
              lost ? std::vector<std::int32_t>(4, 98) : documents[static_cast<std::size_t>(k)]);
    EXPECT_EQ(targets, lost ? std::vector<std::int32_t>(4, kNoTarget) : ids);
    EXPECT_EQ(lenient->targets(k, 1), 3);
    EXPECT_EQ(lenient->lost_samples(), std::clamp<std::int64_t>(k - 5, 0, 2));
  }
}

TEST(TokenSource, AShardThatChangesUnderTheReaderIsNamed) {
  const std::string path = scratch() + "/a";
  Documents documents;
  for (std::int32_t i = 0; i < 12; ++i) documents.push_back(std::vector<std::int32_t>(4, i));
  write_folder(path, documents, plain_kind(99), {16, 8, false});
  std::filesystem::copy(path, path + "2");
  const auto files = open_tokens({{path, 1}}, in_order(4))->files();
  ASSERT_EQ(files.size(), 3u);
  EXPECT_EQ(files[1].path, path + "/shard-00001.h5");
  EXPECT_EQ(files[1].sha256, open_shard_folder(path).manifest.shards[1].sha256);
  const std::vector<std::function<void(const std::string&)>> changes = {
      [&](const std::string& file) { damage_tokens(file, 7, 4); },                // in place
      [&](const std::string& file) { std::filesystem::resize_file(file, 600); },  // cut
      [&](const std::string& file) {                                              // replaced
        std::filesystem::copy_file(file, file + ".new");
        std::filesystem::rename(file + ".new", file);
      }};
  for (const bool skip : {false, true})
    for (const auto& change : changes) {
      std::filesystem::remove_all(path);
      std::filesystem::copy(path + "2", path);
      const auto source = open_tokens({{path, 1}}, {4, 1, false, skip});
      EXPECT_EQ(read(*source, 4), documents[4]);
      change(path + "/shard-00001.h5");
      EXPECT_EQ(read(*source, 3), documents[3]);
      expect_error(Category::data, {path + "/shard-00001.h5", "changed or replaced"},
                   [&] { read(*source, 7); });
    }
}

}  // namespace
}  // namespace tessera::data
