// Shard files and manifests that lie, are damaged, cut, newer or another program's: each is refused
// by name before it costs memory, and none crashes the reader.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/file_system.h"
#include "core/json.h"
#include "core/sha256.h"
#include "data/shard_folder.h"
#include "data/token_source.h"
#include "tests/data/data_support.h"
#include "tests/data/shard_draft.h"

#ifdef __SANITIZE_ADDRESS__
// HDF5 1.10 loses an object header that it fails to decode (H5O__cache_deserialize).
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libhdf5";
}
#endif

namespace tessera::data {
namespace {

void read_everything(const std::string& path) {
  ShardReader shard(path);
  verify_tokens(shard);
}

class BadShard : public ::testing::Test {
 protected:
  void expect_bad(const std::vector<std::string>& words,
                  const std::function<void(ShardDraft&)>& change) {
    ShardDraft draft;
    change(draft);
    draft.write(path);
    std::vector<std::string> all = words;
    all.push_back(path);
    expect_error(Category::data, all, [&] { read_everything(path); });
  }
  std::string base = scratch(), path = base + "/shard-00000.h5";
};

TEST_F(BadShard, AGoodDraftIsAccepted) {
  for (const bool checksum : {true, false}) {
    ShardDraft draft;
    draft.checksum = checksum;
    draft.write(path);
    ShardReader shard(path);
    EXPECT_EQ(shard.kind(), (ShardKind{100, 99, ""}));
    EXPECT_EQ(shard.counts(), (ShardCounts{6, 2, 4}));
    std::vector<std::int32_t> ids(2);
    shard.read_chunk(1, ids);
    EXPECT_EQ(ids, (std::vector<std::int32_t>{4, 99}));
  }
}

TEST_F(BadShard, NotAShardAtAll) {
  const std::vector<std::pair<std::string, std::string>> files = {
      {"", "empty"}, {"text", "not an HDF5 file"}, {std::string(5000, '\0'), "not an HDF5 file"}};
  for (const auto& [bytes, reason] : files) {
    write_file(path, bytes);
    expect_error(Category::data, {path, reason}, [&] { read_everything(path); });
  }
  expect_error(Category::data, {base, "regular file"}, [&] { read_everything(base); });
  ASSERT_EQ(::mkfifo((base + "/pipe").c_str(), 0600), 0);
  expect_error(Category::data, {"pipe", "regular file"}, [&] { read_everything(base + "/pipe"); });
  expect_error(Category::io, {"none.h5", "No such file"},
               [&] { read_everything(base + "/none.h5"); });
}

// What HDF5 would give memory for before it found the file too short.
TEST_F(BadShard, SuperblocksThatAskForTheImpossible) {
  ShardDraft().write(path);
  const std::string good = FileSystem::posix().read(path, 1 << 20);
  const std::string signature = good.substr(0, 8);
  const auto refused = [&](const std::string& bytes, const std::string& reason) {
    write_file(path, bytes);
    expect_error(Category::data, {path, reason}, [&] { read_everything(path); });
  };
  refused(signature, "truncated");
  refused(good.substr(0, 47), "truncated");
  const auto changed = [&](std::size_t at, char byte) {
    std::string bytes = good;
    bytes[at] = byte;
    return bytes;
  };
  ASSERT_EQ(good[8], 0);  // what writers make that ask for nothing newer; ours make version 3
  refused(changed(8, 4), "version 4, expected 0 to 3");
  refused(changed(13, 4), "addresses of 4 and lengths of 8 bytes");
  refused(changed(14, 32), "lengths of 32 bytes");
  std::string newer = changed(8, 2);
  newer[9] = 2;
  refused(newer, "addresses of 2");
  // Version 0 with an address of a driver's block, as the fuzzer found it.
  std::string old = signature + std::string(120, '\0');
  old[13] = old[14] = 8;
  refused(old, "file driver");
  old.resize(50);
  refused(old, "truncated");
  write_file(path, good);
  read_everything(path);
}

TEST_F(BadShard, Attributes) {
  for (const char* name :
       {"format", "format_version", "vocab_size", "end_of_text", "tokenizer_digest"})
    expect_bad({name, "not a token shard"}, [&](auto& d) { d.without = name; });
  expect_bad({"format \"other\""}, [](auto& d) { d.format = "other"; });
  expect_bad({"format version 2", "newer"}, [](auto& d) { d.version = 2; });
  expect_bad({"format version 0"}, [](auto& d) { d.version = 0; });
  expect_bad({"vocabulary size 0"}, [](auto& d) { d.vocab = 0; });
  expect_bad({"vocabulary size"}, [](auto& d) { d.vocab = INT64_MAX; });
  expect_bad({"end-of-text id 100"}, [](auto& d) { d.end_of_text = 100; });
  expect_bad({"end-of-text id -2"}, [](auto& d) { d.end_of_text = -2; });
  expect_bad({"tokenizer_digest", "longer"}, [](auto& d) { d.tokenizer = std::string(9000, 'x'); });
}

TEST_F(BadShard, TokensStoredOtherwise) {
  expect_bad({"tokens", "missing"}, [](auto& d) { d.without = "tokens"; });
  expect_bad({"documents", "missing"}, [](auto& d) { d.without = "documents"; });
  expect_bad({"text_bytes", "missing"}, [](auto& d) { d.without = "text_bytes"; });
  expect_bad({"tokens", "filter 1", "fletcher32"}, [](auto& d) { d.deflate = true; });
  expect_bad({"tokens", "chunks"}, [](auto& d) { d.chunk = 0; });
  expect_bad({"tokens", "one-dimensional"}, [](auto& d) { d.dimensions = 2; });
  expect_bad({"tokens", "unsigned integers of 2"}, [](auto& d) { d.type = H5T_STD_I16LE; });
  expect_bad({"tokens", "unsigned integers of 2"}, [](auto& d) { d.type = H5T_STD_U32LE; });
  expect_bad({"tokens", "unsigned integers of 2"}, [](auto& d) { d.type = H5T_IEEE_F32LE; });
  expect_bad({"tokens", "unsigned integers of 4"}, [](auto& d) { d.vocab = 65537; });
}

TEST_F(BadShard, SizesThatTheFileCannotHold) {
  expect_bad({"tokens", "more than the file"}, [](auto& d) { d.claimed = hsize_t{1} << 60; });
  expect_bad({"tokens", "claims 2000 bytes"}, [](auto& d) { d.claimed = 1000; });
  expect_bad({"tokens", "chunks of"}, [](auto& d) {
    d.claimed = 6;
    d.chunk = hsize_t{1} << 28;
  });
}

TEST_F(BadShard, LinksAreRefused) {
  expect_bad({"tokens", "link"}, [](auto& d) {
    d.instead = [](hid_t file) {
      H5Lcreate_soft("/documents", file, "tokens", H5P_DEFAULT, H5P_DEFAULT);
    };
  });
  ShardDraft().write(base + "/other.h5");
  expect_bad({"tokens", "link"}, [](auto& d) {
    d.instead = [](hid_t file) {
      H5Lcreate_external("other.h5", "/tokens", file, "tokens", H5P_DEFAULT, H5P_DEFAULT);
    };
  });
  expect_bad({"tokens", "not a dataset"}, [](auto& d) {
    d.instead = [](hid_t file) {
      const Hdf5Handle group(H5Gcreate2(file, "tokens", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                             H5Gclose);
    };
  });
  expect_bad({"tokens", "another file"}, [&](auto& d) {
    d.instead = [&](hid_t file) {
      const hsize_t size = 6;
      const Hdf5Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose);
      const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
      H5Pset_external(layout.get(), "/etc/passwd", 0, 12);
      const Hdf5Handle dataset(H5Dcreate2(file, "tokens", H5T_STD_U16LE, space.get(), H5P_DEFAULT,
                                          layout.get(), H5P_DEFAULT),
                               H5Dclose);
    };
  });
  expect_bad({"tokens"}, [&](auto& d) {
    d.instead = [&](hid_t file) {
      const hsize_t size = 6;
      const Hdf5Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose);
      const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
      H5Pset_virtual(layout.get(), space.get(), "other.h5", "tokens", space.get());
      const Hdf5Handle dataset(H5Dcreate2(file, "tokens", H5T_STD_U16LE, space.get(), H5P_DEFAULT,
                                          layout.get(), H5P_DEFAULT),
                               H5Dclose);
    };
  });
}

TEST_F(BadShard, AnIndexThatContradictsItself) {
  expect_bad({"document offsets"}, [](auto& d) { d.documents = {0, 6}; });
  expect_bad({"first document"}, [](auto& d) { d.documents = {1, 4, 6}; });
  expect_bad({"offset 3", "out of order"}, [](auto& d) {
    d.documents = {0, 4, 3, 6};
    d.text_bytes = {1, 1, 1};
  });
  expect_bad({"offset 7"}, [](auto& d) { d.documents = {0, 7, 6}; });
  expect_bad({"offset -1"}, [](auto& d) { d.documents = {0, -1, 6}; });
  expect_bad({"end at token 5", "6 tokens"}, [](auto& d) { d.documents = {0, 4, 5}; });
  expect_bad({"negative"}, [](auto& d) { d.text_bytes = {3, -1}; });
  expect_bad({"64 bits"}, [](auto& d) { d.text_bytes = {INT64_MAX, INT64_MAX}; });
}

TEST_F(BadShard, IdsOutsideTheVocabularyNeverLeave) {
  expect_bad({"token 100 at offset 4", "chunk 1", "vocabulary of 100"},
             [](auto& d) { d.tokens[4] = 100; });
  expect_bad({"token 4294967295 at offset 1", "chunk 0"}, [](auto& d) {
    d.vocab = 70000;
    d.type = H5T_STD_U32LE;
    d.tokens[1] = 0xFFFFFFFF;
  });
}

TEST_F(BadShard, AChunkThatFailsItsChecksumIsNamed) {
  const std::string folder = base + "/folder";
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 4000; ++i) ids.push_back(10000 + i);
  write_folder(folder, {ids}, plain_kind(20000), {5000, 1000, false});
  std::string bytes = read_file(folder + "/shard-00000.h5");
  const std::uint16_t marked = 12345;  // token 2345, in chunk 2
  const std::size_t at =
      bytes.find(std::string(reinterpret_cast<const char*>(&marked), sizeof marked));
  ASSERT_NE(at, std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 4);
  write_file(folder + "/shard-00000.h5", bytes);
  // Opening does not read tokens; the sample that does fails, its neighbours do not.
  const auto source = open_tokens({{folder, 1}}, {100, 1, false, false});
  std::vector<std::int32_t> sample(100), targets(100);
  source->read(19, sample, targets);
  EXPECT_EQ(sample[0], 11900);
  for (int again = 0; again < 2; ++again)
    expect_error(Category::data, {"shard-00000.h5", "tokens chunk 2", "prepare it again"},
                 [&] { source->read(25, sample, targets); });
  source->read(30, sample, targets);
  EXPECT_EQ(sample[0], 13000);
  const auto problems = verify_shards(folder);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_NE(problems[0].find("chunk 2"), std::string::npos);
}

// Whatever byte is changed or wherever the file is cut: read the same, or refused; no crash.
TEST_F(BadShard, EveryFlippedByteAndCut) {
  const std::string folder = base + "/folder";
  const Documents documents = made_documents(6, 40, 300, 1);
  write_folder(folder, documents, plain_kind(300), {500, 32, false});
  const std::string good = read_file(folder + "/shard-00000.h5");
  int refused = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
    write_file(path, bytes);
    try {
      ShardReader shard(path);
      std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.counts().tokens));
      for (std::int64_t c = 0; c < shard.chunks(); ++c)
        shard.read_chunk(c, std::span(ids).subspan(static_cast<std::size_t>(32 * c),
                                                   static_cast<std::size_t>(shard.chunk_size(c))));
      EXPECT_EQ(ids, joined(documents)) << "byte " << at;
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.category()), static_cast<int>(Category::data));
      ++refused;
    }
  }
  // The rest are unused bytes of HDF5's structures.
  EXPECT_GT(refused, static_cast<int>(good.size()) * 2 / 3);
  for (std::size_t size = 0; size < good.size(); size += 13) {
    write_file(path, good.substr(0, size));
    expect_error(Category::data, {path}, [&] { read_everything(path); });
  }
}

// One bit of one file of a folder at a time: found, and the file named.
TEST_F(BadShard, EveryFlippedBitOfAFolder) {
  const std::string folder = base + "/folder", json = "{\"type\": \"bytes\"}";
  write_folder(folder, made_documents(9, 40, 257, 1), {257, 256, sha256(json)}, {150, 32, false},
               json);
  EXPECT_EQ(verify_shards(folder), std::vector<std::string>{});
  ASSERT_GE(FileSystem::posix().list(folder).size(), 4u);
  for (const std::string& name : FileSystem::posix().list(folder)) {
    const std::string good = read_file(folder + "/" + name);
    // The shards take longer.
    const std::size_t step = name.ends_with(".h5") ? 11 * 8 + 1 : 3;
    for (std::size_t bit = 0; bit < 8 * good.size(); bit += step) {
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
      write_file(folder + "/" + name, bad);
      std::string finding;
      try {
        const auto problems = verify_shards(folder);
        ASSERT_EQ(problems.size(), 1u) << name << " bit " << bit;
        finding = problems[0];
      } catch (const Error& error) {
        ASSERT_EQ(error.category(), Category::data);
        finding = error.what();
      }
      ASSERT_NE(finding.find(folder + "/" + name), std::string::npos) << bit << ": " << finding;
    }
    write_file(folder + "/" + name, good);
  }
}

class BadManifest : public ::testing::Test {
 protected:
  BadManifest() {
    write_folder(path, made_documents(9, 40, 300, 1), plain_kind(300), {100, 32, false});
    good = parse_json(read_file(path + "/dataset.json"), "dataset.json");
    // As version 1, which has no digest of itself that would be found first.
    good["version"] = 1;
    good.erase("manifest_sha256");
  }
  void expect_bad(const std::vector<std::string>& words, const std::function<void(Json&)>& change) {
    Json json = good;
    change(json);
    write_file(path + "/dataset.json", json.dump());
    expect_error(Category::data, words, [&] {
      const ShardFolder folder = open_shard_folder(path);
      for (std::size_t i = 0; i < folder.manifest.shards.size(); ++i) open_shard(folder, i);
    });
  }
  std::string path = scratch() + "/out";
  Json good;
};

TEST_F(BadManifest, FieldsAreChecked) {
  for (const char* key : {"format", "version", "vocab_size", "end_of_text", "tokenizer", "tokens",
                          "documents", "text_bytes", "shards"}) {
    expect_bad({"dataset.json", key, "missing"}, [&](Json& j) { j.erase(key); });
    expect_bad({"dataset.json", key}, [&](Json& j) { j[key] = {{"a", 1}}; });
    expect_bad({"dataset.json", key}, [&](Json& j) { j[key] = -77; });
  }
  for (const char* key : {"file", "tokens", "documents", "text_bytes", "bytes", "sha256"}) {
    expect_bad({"dataset.json", key, "missing"}, [&](Json& j) { j["shards"][1].erase(key); });
    expect_bad({"dataset.json", key == std::string("file") ? "file" : "shard-00001.h5"},
               [&](Json& j) { j["shards"][1][key] = -1; });
  }
  expect_bad({"newer"}, [](Json& j) { j["version"] = 3; });
  expect_bad({"dataset.json", "its own SHA-256"}, [](Json& j) { j["version"] = 2; });
  expect_bad({"format"}, [](Json& j) { j["format"] = "other"; });
  expect_bad({"18446744073709551615"}, [](Json& j) { j["tokens"] = UINT64_MAX; });
  expect_bad({"1.5"}, [](Json& j) { j["vocab_size"] = 1.5; });
  expect_bad({"tokens", "not the sum"}, [](Json& j) { j["tokens"] = 1; });
  expect_bad({"64 bits"}, [](Json& j) {
    for (auto& shard : j["shards"]) shard["tokens"] = INT64_MAX;
  });
  expect_bad({"listed twice"}, [](Json& j) { j["shards"][1] = j["shards"][0]; });
  expect_bad({"not a list"}, [](Json& j) { j["shards"] = Json::array(); });
  expect_bad({"SHA-256"}, [](Json& j) { j["tokenizer"] = "abc"; });
  expect_bad({"SHA-256"}, [](Json& j) { j["shards"][0]["sha256"] = std::string(64, 'G'); });
}

TEST_F(BadManifest, NamesStayInTheFolder) {
  for (const char* name :
       {"../out/shard-00000.h5", "/etc/passwd", "shard-00000.h5/..", "shard-0.h5", "shard-0000a.h5",
        "dataset.json", "shard-00000.h5.tmp", ""})
    expect_bad({"dataset.json"}, [&](Json& j) { j["shards"][0]["file"] = name; });
}

TEST_F(BadManifest, ShardsMustBeTheOnesWritten) {
  expect_bad({"shard-00000.h5", "bytes, the manifest says"},
             [](Json& j) { j["shards"][0]["bytes"] = 5; });
  expect_bad({"shard-00009.h5", "missing"},
             [](Json& j) { j["shards"][0]["file"] = "shard-00009.h5"; });
  expect_bad({"shard-00000.h5", "not the manifest's"}, [](Json& j) { j["vocab_size"] = 301; });
  expect_bad({"shard-00000.h5", "documents"}, [](Json& j) {
    j["shards"][0]["documents"] = j["shards"][0]["documents"].get<int>() + 1;
    j["documents"] = j["documents"].get<int>() + 1;
  });
  // A change that keeps the size is found by verification.
  Json json = good;
  json["shards"][0]["sha256"] = std::string(64, '0');
  write_file(path + "/dataset.json", json.dump());
  const auto problems = verify_shards(path);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_NE(problems[0].find("shard-00000.h5: its SHA-256"), std::string::npos) << problems[0];
}

TEST_F(BadManifest, TextThatIsNoManifest) {
  const std::string text = good.dump();
  const std::vector<std::string> texts = {"",
                                          "[]",
                                          "null",
                                          text.substr(0, text.size() / 2),
                                          text + "x",
                                          std::string(100000, '['),
                                          "{\"format\":1,\"format\":2}"};
  for (const std::string& bad : texts) {
    write_file(path + "/dataset.json", bad);
    expect_error(Category::data, {"dataset.json"}, [&] { open_shard_folder(path); });
  }
}

}  // namespace
}  // namespace tessera::data
