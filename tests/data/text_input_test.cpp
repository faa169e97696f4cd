// Bytes and lines of plain, zstd and gzip files, whole, joined, cut and damaged; which files a
// prepare reads.
#include <gtest/gtest.h>

#include "core/random.h"
#include "data/byte_source.h"
#include "data/input_files.h"
#include "data/line_reader.h"
#include "tests/data/compression.h"
#include "tests/data/data_support.h"

namespace tessera::data {
namespace {

std::string read_all(const std::string& path, std::size_t piece = 1000) {
  std::atomic<std::int64_t> consumed = 0;
  const auto source = open_bytes(path, consumed);
  std::string all, buffer(piece, '\0');
  while (const std::size_t count = source->read(buffer.data(), buffer.size()))
    all.append(buffer, 0, count);
  EXPECT_EQ(source->read(buffer.data(), buffer.size()), 0u);  // the end stays the end
  EXPECT_EQ(consumed, static_cast<std::int64_t>(std::filesystem::file_size(path)));
  return all;
}

std::string noise(std::size_t size) {
  const CounterRandom random(1, 2);
  std::string text;
  for (std::size_t i = 0; i < size; ++i)
    text += static_cast<char>("abcdefgh \n"[random.bits(i) % 10]);
  return text;
}

TEST(ByteSource, ReadsWhatWasCompressed) {
  const std::string base = scratch();
  for (const std::size_t size : {0, 1, 999, 1000, 1001, 3000000}) {
    const std::string text = noise(size);
    write_file(base + "/a.txt", text);
    write_file(base + "/a.zst", zstd(text));
    write_file(base + "/a.gz", gzip(text));
    for (const char* name : {"/a.txt", "/a.zst", "/a.gz"})
      for (const std::size_t piece : {std::size_t{7} + size / 3, std::size_t{1} << 20})
        EXPECT_TRUE(read_all(base + name, piece) == text) << name << " " << size;
  }
}

TEST(ByteSource, JoinedFilesAreOneStream) {
  const std::string base = scratch(), a = noise(5000), b = "second\n";
  write_file(base + "/a.zst", zstd(a) + zstd(b) + zstd("") + zstd(a));
  write_file(base + "/a.gz", gzip(a) + gzip(b) + gzip("") + gzip(a) + std::string(512, '\0'));
  EXPECT_EQ(read_all(base + "/a.zst"), a + b + a);
  EXPECT_EQ(read_all(base + "/a.gz"), a + b + a);
}

TEST(ByteSource, EveryTruncationIsNoticed) {
  const std::string base = scratch(), text = noise(3000);
  for (const bool gz : {false, true}) {
    const std::string whole = gz ? gzip(text) : zstd(text);
    const std::string path = base + (gz ? "/a.gz" : "/a.zst");
    for (std::size_t size = 0; size < whole.size(); size += size < 40 ? 1 : 97) {
      write_file(path, whole.substr(0, size));
      expect_error(Category::data, {path, size == 0 ? "empty" : "truncated"},
                   [&] { read_all(path); });
    }
    write_file(path, whole.substr(0, whole.size() - 1));
    expect_error(Category::data, {path, "truncated"}, [&] { read_all(path); });
  }
}

TEST(ByteSource, DamageIsNoticed) {
  const std::string base = scratch();
  write_file(base + "/a.zst", "{\"text\":\"not compressed\"}\n");
  expect_error(Category::data, {base + "/a.zst", "zstd"}, [&] { read_all(base + "/a.zst"); });
  write_file(base + "/a.gz", "{\"text\":\"not compressed\"}\n");
  expect_error(Category::data, {base + "/a.gz", "gzip"}, [&] { read_all(base + "/a.gz"); });
  std::string bad = gzip(noise(3000));
  bad[bad.size() - 6] = static_cast<char>(bad[bad.size() - 6] ^ 1);  // its checksum
  write_file(base + "/a.gz", bad);
  expect_error(Category::data, {base + "/a.gz", "incorrect data check"},
               [&] { read_all(base + "/a.gz"); });
  write_file(base + "/b.gz", gzip("x") + "trailing");
  expect_error(Category::data, {base + "/b.gz", "damaged"}, [&] { read_all(base + "/b.gz"); });
  expect_error(Category::io, {base + "/none.gz", "No such file"},
               [&] { read_all(base + "/none.gz"); });
  expect_error(Category::io, {base, "folder"}, [&] { read_all(base); });
}

class PiecesSource : public ByteSource {
 public:
  PiecesSource(std::string text, std::size_t piece) : text_(std::move(text)), piece_(piece) {}
  std::size_t read(char* out, std::size_t count) override {
    const std::size_t size = std::min({count, piece_, text_.size() - at_});
    std::copy_n(text_.data() + at_, size, out);
    at_ += size;
    return size;
  }

 private:
  std::string text_;
  std::size_t piece_, at_ = 0;
};

std::vector<std::string> lines_of(const std::string& text, std::size_t piece,
                                  std::size_t limit = 1 << 20) {
  PiecesSource source(text, piece);
  LineReader reader(source, "x.jsonl", limit);
  std::vector<std::string> lines;
  std::string_view line;
  while (reader.next(line)) {
    lines.emplace_back(line);
    EXPECT_EQ(reader.number(), static_cast<std::int64_t>(lines.size()));
  }
  return lines;
}

TEST(LineReader, LinesComeWholeWhateverThePieces) {
  using Lines = std::vector<std::string>;
  for (const std::size_t piece : {1, 2, 3, 1000}) {
    EXPECT_EQ(lines_of("", piece), Lines{});
    EXPECT_EQ(lines_of("a", piece), Lines{"a"});
    EXPECT_EQ(lines_of("a\n", piece), Lines{"a"});
    EXPECT_EQ(lines_of("\n\na\r\n", piece), (Lines{"", "", "a\r"}));
    EXPECT_EQ(lines_of("\xEF\xBB\xBF{}\nb", piece), (Lines{"{}", "b"}));
  }
  const std::string text = noise(2000000) + "\n" + std::string(900000, 'x') + "\nend";
  std::string joined;
  for (const std::string& line : lines_of(text, 70000)) joined += line + "\n";
  EXPECT_TRUE(joined == text + "\n");
}

TEST(LineReader, ALineTooLongIsRefused) {
  EXPECT_EQ(lines_of("ab\n" + std::string(100, 'x') + "\n", 7, 100).size(), 2u);
  expect_error(Category::data, {"x.jsonl, line 2", "100 bytes"},
               [] { lines_of("ab\n" + std::string(101, 'x') + "\n", 7, 100); });
  expect_error(Category::data, {"x.jsonl, line 1"},
               [] { lines_of(std::string(3000000, 'x'), 1 << 20, 1 << 20); });
}

TEST(InputFiles, FormatsFollowTheNames) {
  const std::string base = scratch();
  for (const char* name : {"a.jsonl", "b.jsonl.zst", "c.ndjson.gz", "d.json", "e.txt", "f.txt.zst",
                           "g.bin", "h.bin", "h.idx"})
    write_file(base + "/" + name, "x");
  const auto format = [&](const std::string& name) {
    const auto files = find_inputs({base + "/" + name}, InputFormat::automatic);
    EXPECT_EQ(files.size(), 1u);
    EXPECT_EQ(files[0].bytes, 1);
    return files[0].format;
  };
  for (const char* name : {"a.jsonl", "b.jsonl.zst", "c.ndjson.gz", "d.json"})
    EXPECT_EQ(format(name), InputFormat::jsonl) << name;
  for (const char* name : {"e.txt", "f.txt.zst"}) EXPECT_EQ(format(name), InputFormat::text);
  EXPECT_EQ(format("g.bin"), InputFormat::flat);
  for (const char* name : {"h.bin", "h.idx", "h"}) EXPECT_EQ(format(name), InputFormat::megatron);
  EXPECT_EQ(find_inputs({base + "/h.idx"}, InputFormat::automatic)[0].path, base + "/h.bin");
  EXPECT_EQ(find_inputs({base + "/a.jsonl"}, InputFormat::text)[0].format, InputFormat::text);
}

TEST(InputFiles, FoldersAreSortedAndFiltered) {
  const std::string base = scratch();
  for (const char* name : {"b.jsonl", "sub/a.txt", "sub/deep/c.jsonl.gz", "README.md", "d.json",
                           ".hidden/x.jsonl", ".x.jsonl"})
    write_file(base + "/" + name, "x");
  std::vector<std::string> found;
  for (const auto& file : find_inputs({base}, InputFormat::automatic)) found.push_back(file.path);
  EXPECT_EQ(found, (std::vector<std::string>{base + "/b.jsonl", base + "/sub/a.txt",
                                             base + "/sub/deep/c.jsonl.gz"}));
  EXPECT_EQ(find_inputs({base}, InputFormat::text).size(), 1u);
  expect_error(Category::config, {base, "no file of a known format"},
               [&] { find_inputs({base}, InputFormat::flat); });
  expect_error(Category::config, {base + "/README.md", "--format"},
               [&] { find_inputs({base + "/README.md"}, InputFormat::automatic); });
  expect_error(Category::io, {base + "/none.txt", "No such file"},
               [&] { find_inputs({base + "/none.txt"}, InputFormat::automatic); });
}

}  // namespace
}  // namespace tessera::data
