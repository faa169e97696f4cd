// Token files of Megatron, nanoGPT and llm.c come in unchanged; contradictory ones are refused.
#include <cstring>

#include <gtest/gtest.h>

#include "core/sha256.h"
#include "data/import_tokens.h"
#include "data/prepare.h"
#include "data/shard_folder.h"
#include "tests/data/data_support.h"

namespace tessera::data {
namespace {

template <typename T>
std::string bytes(const std::vector<T>& values) {
  std::string out(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

template <typename T>
std::string ids_as(const std::vector<std::int32_t>& ids) {
  return bytes(std::vector<T>(ids.begin(), ids.end()));
}

// A Megatron index that tests may falsify before it is written.
struct Index {
  std::string magic{"MMIDIDX\0\0", 9};
  std::uint64_t version = 1;
  std::uint8_t dtype = 8;
  std::vector<std::int32_t> sizes;
  std::vector<std::int64_t> pointers, documents;
  std::uint64_t sequences = 0, entries = 0;  // as claimed

  // Each inner list is a document of one sequence of this many tokens or more.
  using Lengths = std::vector<std::vector<std::int32_t>>;
  explicit Index(const Lengths& lengths, std::uint8_t code = 8) : dtype(code) {
    const std::int64_t width = code == 8 ? 2 : code == 5 ? 8 : 4;
    std::int64_t at = 0;
    for (const auto& document : lengths) {
      documents.push_back(static_cast<std::int64_t>(sizes.size()));
      for (const std::int32_t length : document) {
        sizes.push_back(length);
        pointers.push_back(at);
        at += width * length;
      }
    }
    documents.push_back(static_cast<std::int64_t>(sizes.size()));
    sequences = sizes.size();
    entries = documents.size();
  }

  std::string written() const {
    return magic + bytes(std::vector{version}) + bytes(std::vector{dtype}) +
           bytes(std::vector{sequences, entries}) + bytes(sizes) + bytes(pointers) +
           bytes(documents);
  }
};

struct Imported {
  std::vector<std::int32_t> stream;
  std::vector<std::int64_t> lengths, text_bytes;
  ShardKind kind;
};

Imported read_back(const std::string& path) {
  EXPECT_EQ(verify_shards(path), std::vector<std::string>{});
  const ShardFolder folder = open_shard_folder(path);
  Imported result;
  result.kind = folder.manifest.kind;
  for (std::size_t i = 0; i < folder.manifest.shards.size(); ++i) {
    ShardReader shard = open_shard(folder, i);
    for (std::int64_t c = 0; c < shard.chunks(); ++c) {
      std::vector<std::int32_t> ids(static_cast<std::size_t>(shard.chunk_size(c)));
      shard.read_chunk(c, ids);
      result.stream.insert(result.stream.end(), ids.begin(), ids.end());
    }
    std::vector<std::int64_t> starts(static_cast<std::size_t>(shard.counts().documents) + 1);
    shard.read_documents(0, starts);
    for (std::size_t d = 0; d + 1 < starts.size(); ++d)
      result.lengths.push_back(starts[d + 1] - starts[d]);
    std::vector<std::int64_t> text(starts.size() - 1);
    shard.read_text_bytes(0, text);
    result.text_bytes.insert(result.text_bytes.end(), text.begin(), text.end());
  }
  return result;
}

class Import : public ::testing::Test {
 protected:
  Import() {
    options.inputs = {base + "/a.bin"};
    options.out = base + "/out";
    options.force = true;
    options.import.end_of_text = 0;
  }
  void write_pair(const Index& index, const std::string& data) {
    write_file(base + "/a.idx", index.written());
    write_file(base + "/a.bin", data);
  }
  Imported run() {
    report = prepare(options);
    return read_back(options.out);
  }
  void expect_bad(const Index& index, const std::vector<std::string>& words,
                  const std::string& data = bytes(std::vector<std::uint16_t>{1, 2, 3, 4, 5, 6})) {
    write_pair(index, data);
    expect_error(Category::data, words, [&] { prepare(options); });
    EXPECT_FALSE(std::filesystem::exists(options.out));
  }

  std::string base = scratch();
  PrepareOptions options;
  PrepareReport report;
};

using Ids = std::vector<std::int32_t>;
using Lengths = std::vector<std::int64_t>;

TEST_F(Import, MegatronOfEveryType) {
  const Ids ids = {5, 6, 7, 8, 9, 10};
  const std::vector<std::vector<std::int32_t>> shape = {{2}, {1, 2}, {1}};
  for (const std::uint8_t code : {4, 5, 8}) {
    write_pair(Index(shape, code), code == 8   ? ids_as<std::uint16_t>(ids)
                                   : code == 5 ? ids_as<std::int64_t>(ids)
                                               : ids_as<std::int32_t>(ids));
    const Imported got = run();
    EXPECT_EQ(got.stream, (Ids{5, 6, 0, 7, 8, 9, 0, 10, 0}));
    EXPECT_EQ(got.lengths, (Lengths{3, 4, 2}));
    EXPECT_EQ(got.kind, (ShardKind{11, 0, ""}));
    EXPECT_EQ(got.text_bytes, (Lengths{0, 0, 0}));  // unknown without a tokenizer
  }
}

TEST_F(Import, MegatronEndOfTextIsAppendedAsAsked) {
  write_pair(Index({{2}, {0}, {2}, {}, {1}}), ids_as<std::uint16_t>({5, 6, 7, 0, 8}));
  EXPECT_EQ(run().stream, (Ids{5, 6, 0, 7, 0, 8, 0}));
  EXPECT_EQ(report.empty_documents, 2);
  options.import.append = AppendEndOfText::always;
  EXPECT_EQ(run().stream, (Ids{5, 6, 0, 7, 0, 0, 8, 0}));
  options.import.append = AppendEndOfText::never;
  const Imported got = run();
  EXPECT_EQ(got.stream, (Ids{5, 6, 7, 0, 8}));
  EXPECT_EQ(got.lengths, (Lengths{2, 2, 1}));
  options.import.end_of_text = -1;
  EXPECT_EQ(run().kind.end_of_text, -1);
  options.import.append = AppendEndOfText::missing;
  expect_error(Category::config, {"a.bin", "--eot"}, [&] { prepare(options); });
}

TEST_F(Import, MegatronDocumentsCrossShardsWhole) {
  Ids ids;
  std::vector<std::vector<std::int32_t>> shape;
  for (std::int32_t d = 0; d < 200; ++d) {
    shape.push_back({d % 7 + 1});
    for (std::int32_t i = 0; i < d % 7 + 1; ++i) ids.push_back(1 + (d * 31 + i) % 5000);
  }
  write_pair(Index(shape), ids_as<std::uint16_t>(ids));
  options.shard_tokens = 50;
  options.valid_fraction = 0.2;
  std::int64_t told = -1;
  options.on_progress = [&](const PrepareProgress& p) { told = p.bytes_done; };
  report = prepare(options);
  EXPECT_EQ(told, static_cast<std::int64_t>(2 * ids.size()));
  const Imported train = read_back(options.out + "/train"),
                 valid = read_back(options.out + "/valid");
  EXPECT_EQ(train.lengths.size() + valid.lengths.size(), 200u);
  EXPECT_EQ(train.stream.size() + valid.stream.size(), ids.size() + 200);
  EXPECT_GT(valid.lengths.size(), 20u);
  EXPECT_GT(report.parts[0].shards, 10);
}

TEST_F(Import, ATokenizerGivesVocabularyEndAndTextBytes) {
  write_pair(Index(Index::Lengths{{2}, {3}}), ids_as<std::uint16_t>({104, 105, 1, 2, 3}));
  options.import.end_of_text = -1;
  options.tokenizer = "bytes";
  Imported got = run();
  EXPECT_EQ(got.stream, (Ids{104, 105, 256, 1, 2, 3, 256}));
  EXPECT_EQ(got.kind.vocab_size, 257);
  EXPECT_EQ(got.kind.tokenizer_digest, sha256("{\"type\": \"bytes\"}"));
  EXPECT_EQ(got.text_bytes, (Lengths{2, 3}));
  options.import.vocab_size = 300;  // a model's padded vocabulary
  EXPECT_EQ(run().kind.vocab_size, 300);
  options.import.vocab_size = 200;
  expect_error(Category::config, {"--vocab is 200", "257"}, [&] { prepare(options); });
}

TEST_F(Import, MegatronIndexThatLies) {
  const std::vector<std::vector<std::int32_t>> shape = {{2}, {4}};
  const auto falsified = [&](auto change) {
    Index index(shape);
    change(index);
    return index;
  };
  expect_bad(falsified([](Index& i) { i.magic[0] = 'X'; }), {"a.idx", "MMIDIDX"});
  expect_bad(falsified([](Index& i) { i.version = 2; }), {"a.idx", "version 2"});
  for (const std::uint8_t code : {0, 1, 2, 3, 6, 7, 9, 255})
    expect_bad(falsified([&](Index& i) { i.dtype = code; }),
               {"a.idx", "dtype code " + std::to_string(code)});
  expect_bad(falsified([](Index& i) { i.sequences = 3; }), {"a.idx", "3 sequences"});
  expect_bad(falsified([](Index& i) { i.sequences = UINT64_MAX; }), {"a.idx", "sequences"});
  expect_bad(falsified([](Index& i) { i.entries = std::uint64_t{1} << 61; }), {"a.idx", "damaged"});
  expect_bad(falsified([](Index& i) { i.sizes[0] = -2; }), {"sequence 0", "negative size -2"});
  expect_bad(falsified([](Index& i) { i.sizes[0] = 3; }), {"sequence 1", "starts at byte 4"});
  expect_bad(falsified([](Index& i) { i.sizes[1] = INT32_MAX; }), {"a.bin", "describes more"});
  expect_bad(falsified([](Index& i) { i.pointers[1] = -4; }), {"sequence 1", "byte -4"});
  expect_bad(falsified([](Index& i) { i.pointers[1] = INT64_MAX; }), {"sequence 1"});
  expect_bad(falsified([](Index& i) { i.documents[1] = 3; }), {"a.idx", "document 1"});
  expect_bad(falsified([](Index& i) { i.documents[1] = -1; }), {"a.idx", "document 1"});
  expect_bad(falsified([](Index& i) { i.documents[2] = 1; }), {"a.idx", "documents"});
  expect_bad(falsified([](Index& i) { i.documents[0] = 1; }), {"a.idx", "documents"});
  expect_bad(Index(shape), {"a.bin", "11 bytes", "describes more"}, std::string(11, '\1'));
  expect_bad(Index(shape), {"a.bin", "14 bytes", "describes less"}, std::string(14, '\1'));
  const std::string whole = Index(shape).written();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_file(base + "/a.idx", whole.substr(0, size));
    expect_error(Category::data, {"a.idx"}, [&] { prepare(options); });
  }
}

TEST_F(Import, IdsOutsideTheVocabulary) {
  write_pair(Index(Index::Lengths{{3}}), ids_as<std::uint16_t>({1, 7, 2}));
  options.import.vocab_size = 7;
  expect_error(Category::data, {"a.bin", "token id 7 at position 1", "vocabulary of 7"},
               [&] { prepare(options); });
  write_pair(Index(Index::Lengths{{3}}, 4), ids_as<std::int32_t>({1, -7, 2}));
  expect_error(Category::data, {"a.bin", "-7"}, [&] { prepare(options); });
  options.import.vocab_size = 0;
  expect_error(Category::data, {"a.bin", "-7 at position 1"}, [&] { prepare(options); });
  write_pair(Index(Index::Lengths{{1}}, 5),
             bytes(std::vector<std::int64_t>{std::int64_t{1} << 40}));
  expect_error(Category::data, {"a.bin", "cannot be a token id"}, [&] { prepare(options); });
  options.import.vocab_size = 5;
  options.import.end_of_text = 5;
  expect_error(Category::config, {"--eot is 5"}, [&] { prepare(options); });
  EXPECT_FALSE(std::filesystem::exists(options.out));
}

TEST_F(Import, FlatFilesAreCutAtTheEndOfText) {
  const Ids ids = {5, 6, 0, 0, 7, 8, 0, 9};
  write_file(base + "/a.bin", ids_as<std::uint16_t>(ids));
  Imported got = run();
  EXPECT_EQ(got.stream, ids);
  EXPECT_EQ(got.lengths, (Lengths{3, 1, 3, 1}));
  EXPECT_EQ(got.kind, (ShardKind{10, 0, ""}));

  write_file(base + "/a.bin", "xyz" + ids_as<std::uint32_t>(ids));
  options.import.dtype = "uint32";
  options.import.header_bytes = 3;
  options.import.vocab_size = 100000;
  got = run();
  EXPECT_EQ(got.stream, ids);
  EXPECT_EQ(got.kind.vocab_size, 100000);

  options.import.end_of_text = -1;  // one document, cut at the shards
  options.shard_tokens = 3;
  got = run();
  EXPECT_EQ(got.stream, ids);
  EXPECT_EQ(got.lengths, (Lengths{3, 3, 2}));
}

TEST_F(Import, LlmcHeadersAreRecognised) {
  const Ids ids = {50256, 1, 2, 50256, 3};
  std::vector<std::int32_t> header(256);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = 5;
  write_file(base + "/a.bin", bytes(header) + ids_as<std::uint16_t>(ids));
  options.import.end_of_text = 50256;
  EXPECT_EQ(run().stream, ids);
  std::vector<std::int32_t> llama = header;
  llama[0] = 20240801;
  llama[1] = 7;
  write_file(base + "/a.bin", bytes(llama) + ids_as<std::uint32_t>({128000, 1, 2, 128000, 3}));
  options.import.end_of_text = 128000;
  EXPECT_EQ(run().lengths, (Lengths{1, 3, 1}));
  options.import.dtype = "uint16";
  expect_error(Category::config, {"a.bin", "uint32", "uint16"}, [&] { prepare(options); });
  options.import.dtype = "";

  header[1] = 9;
  write_file(base + "/a.bin", bytes(header) + ids_as<std::uint16_t>(ids));
  expect_error(Category::data, {"a.bin", "version 9"}, [&] { prepare(options); });
  header[1] = 1;
  header[2] = 6;
  write_file(base + "/a.bin", bytes(header) + ids_as<std::uint16_t>(ids));
  expect_error(Category::data, {"a.bin", "6 ids", "truncated"}, [&] { prepare(options); });
}

TEST_F(Import, FlatFilesThatDoNotFit) {
  write_file(base + "/a.bin", "abc");
  expect_error(Category::data, {"a.bin", "3 bytes", "multiple of 2"}, [&] { prepare(options); });
  options.import.header_bytes = 4;
  expect_error(Category::config, {"a.bin", "--header-bytes 4"}, [&] { prepare(options); });
  options.import.header_bytes = 1;
  options.import.append = AppendEndOfText::always;
  expect_error(Category::config, {"a.bin", "flat"}, [&] { prepare(options); });
  options.import.append = AppendEndOfText::missing;
  options.import.dtype = "float";
  expect_error(Category::config, {"--dtype", "float"}, [&] { prepare(options); });
  options.import = {};
  write_file(base + "/a.bin", "");
  expect_error(Category::data, {"no token"}, [&] { prepare(options); });
  write_pair(Index(Index::Lengths{{1}}), ids_as<std::uint16_t>({1}));
  options.import.header_bytes = 2;
  expect_error(Category::config, {"a.bin", "flat files"}, [&] { prepare(options); });
  std::filesystem::remove(base + "/a.bin");
  expect_error(Category::io, {"a.bin"}, [&] { prepare(options); });
}

}  // namespace
}  // namespace tessera::data
