// Safetensors files: what is written reads back, and what is wrong is refused by name.
#include "checkpoints/safetensors.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/sha256.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {
namespace {

std::string little_endian(std::uint64_t value) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &value, 8);
  return bytes;
}

std::string file_of(const std::string& header, const std::string& data) {
  return little_endian(header.size()) + header + data;
}

TEST(Safetensors, WhatIsWrittenReadsBack) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.safetensors";
  std::vector<float> floats(30);
  for (std::size_t i = 0; i < floats.size(); ++i) floats[i] = static_cast<float>(i) * -0.37f;
  const std::vector<std::int32_t> ids = {-1, 0, 7, 2147483647};
  SafetensorsWriter writer(FileSystem::posix(), path);
  writer.set_metadata("format", "pt");
  writer.set_metadata("note", "a \"quoted\" line\n");
  writer.declare("weight", TensorType::f32, {5, 6});
  writer.declare("empty", TensorType::f32, {0, 3});
  writer.declare("ids", TensorType::i32, {4});
  writer.append(floats.data(), 7);  // pieces of any size
  writer.append(reinterpret_cast<const char*>(floats.data()) + 7, 113);
  writer.append(ids.data(), 16);
  const SafetensorsWriter::Result result = writer.finish();
  EXPECT_EQ(result.bytes, FileSystem::posix().size(path));
  EXPECT_EQ(result.sha256, sha256_file(path));

  const SafetensorsReader reader(path);
  EXPECT_EQ(reader.metadata().at("note"), "a \"quoted\" line\n");
  ASSERT_EQ(reader.tensors().size(), 3u);
  const TensorEntry* weight = reader.find("weight");
  ASSERT_TRUE(weight);
  EXPECT_EQ(weight->shape, (std::vector<std::int64_t>{5, 6}));
  EXPECT_EQ(weight->count(), 30);
  std::vector<float> part(11);
  reader.read_floats(*weight, 3, 11, part.data());
  EXPECT_TRUE(std::equal(part.begin(), part.end(), floats.begin() + 3));
  EXPECT_EQ(reader.read_integers(*reader.find("ids")),
            (std::vector<std::int64_t>{-1, 0, 7, 2147483647}));
  EXPECT_EQ(reader.find("empty")->count(), 0);
  EXPECT_EQ(reader.find("absent"), nullptr);
  // The data starts on a 64-byte boundary of the file.
  const std::string bytes = read_bytes(path);
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ((header + 8) % 64, 0u);
}

TEST(Safetensors, NoTensorsAtAll) {
  const TemporaryFolder folder;
  SafetensorsWriter writer(FileSystem::posix(), folder / "a.safetensors");
  writer.finish();
  EXPECT_TRUE(SafetensorsReader(folder / "a.safetensors").tensors().empty());
}

TEST(Safetensors, FinishWithoutAllBytesIsAnInternalError) {
  const TemporaryFolder folder;
  SafetensorsWriter writer(FileSystem::posix(), folder / "a.safetensors");
  writer.declare("x", TensorType::f32, {2});
  writer.append("1234", 4);
  EXPECT_EQ(message_of(Category::internal, [&] { writer.append("12345", 5); }).empty(), false);
  message_of(Category::internal, [&] { writer.finish(); });
}

TEST(Safetensors, AllFloatTypesWidenExactly) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.safetensors";
  const double big = 1.0 / 3;
  std::string data(3, '\1');                   // an odd start: nothing below is aligned
  data += std::string("\x00\x3c\x01\x00", 4);  // f16: 1, 2^-24
  data += std::string("\x80\x3f\x49\xc0", 4);  // bf16: 1, -3.140625
  data.append(reinterpret_cast<const char*>(&big), 8);
  write_bytes(path, file_of(R"({"u":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                            R"("h":{"dtype":"F16","shape":[2],"data_offsets":[3,7]},)"
                            R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[7,11]},)"
                            R"("d":{"dtype":"F64","shape":[],"data_offsets":[11,19]}})",
                            data));
  const SafetensorsReader reader(path);
  float two[2];
  reader.read_floats(*reader.find("h"), 0, 2, two);
  EXPECT_EQ(two[0], 1.0f);
  EXPECT_EQ(two[1], std::ldexp(1.0f, -24));
  reader.read_floats(*reader.find("b"), 0, 2, two);
  EXPECT_EQ(two[0], 1.0f);
  EXPECT_EQ(two[1], -3.140625f);
  reader.read_floats(*reader.find("d"), 0, 1, two);
  EXPECT_EQ(two[0], static_cast<float>(big));
  EXPECT_EQ(reader.read_integers(*reader.find("u")), (std::vector<std::int64_t>{1, 1, 1}));
  message_of(Category::data, [&] { reader.read_floats(*reader.find("u"), 0, 1, two); });
  message_of(Category::data, [&] { reader.read_integers(*reader.find("h")); });
}

struct BadFile {
  const char* name;
  std::string bytes;
  const char* expected;  // part of the message
};

std::string tensor(const char* name, const char* dtype, const char* shape, const char* offsets) {
  return std::string("\"") + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape +
         R"(,"data_offsets":)" + offsets + "}";
}

std::vector<BadFile> bad_files() {
  const std::string a = tensor("a", "F32", "[2]", "[0,8]");
  const std::string data(8, 'x');
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += '[';
  return {
      {"Empty", "", "too few"},
      {"SevenBytes", "1234567", "too few"},
      {"HeaderBeyondFile", little_endian(100) + "{}", "header of 100 bytes"},
      {"Header2To63", little_endian(std::uint64_t{1} << 63) + "{}",
       "header of 9223372036854775808"},
      {"HeaderAllOnes", little_endian(~std::uint64_t{0}) + "{}", "header of 18446744073709551615"},
      {"EmptyHeader", file_of("", ""), "not valid JSON"},
      {"NotJson", file_of("{\"a\":", ""), "not valid JSON"},
      {"TextAfterJson", file_of("{} {}", ""), "not valid JSON"},
      {"List", file_of("[]", ""), "a list"},
      {"Number", file_of("5", ""), "a number"},
      {"DeepNesting", file_of(deep, ""), "a list"},
      {"DeepInsideTensor", file_of("{\"a\":{\"shape\":" + deep, ""), "a list"},
      {"NotUtf8", file_of("{\"\xff\xfe\":{}}", ""), "not valid JSON"},
      {"TensorIsNumber", file_of(R"({"a":7})", ""), "a number"},
      {"MissingDtype", file_of(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", data), "needs dtype"},
      {"MissingOffsets", file_of(R"({"a":{"dtype":"F32","shape":[2]}})", data), "needs dtype"},
      {"UnknownKey", file_of(R"({"a":{"dtype":"F32","shape":[2],"data":[0,8]}})", data),
       "unknown key"},
      {"UnknownDtype", file_of("{" + tensor("a", "F4", "[2]", "[0,8]") + "}", data),
       "dtype \"F4\" is not supported"},
      {"DtypeNumber", file_of(R"({"a":{"dtype":3,"shape":[2],"data_offsets":[0,8]}})", data),
       "a number"},
      {"ThreeOffsets", file_of("{" + tensor("a", "F32", "[2]", "[0,8,9]") + "}", data),
       "more than 2 offsets"},
      {"OneOffset", file_of("{" + tensor("a", "F32", "[2]", "[0]") + "}", data), "2 numbers"},
      {"NegativeExtent", file_of("{" + tensor("a", "F32", "[-2]", "[0,8]") + "}", data),
       "negative number"},
      {"FractionExtent", file_of("{" + tensor("a", "F32", "[2.0]", "[0,8]") + "}", data),
       "a fraction"},
      {"HugeExtent",
       file_of("{" + tensor("a", "F32", "[9223372036854775808]", "[0,8]") + "}", data),
       "beyond 63 bits"},
      {"ProductOverflow",
       file_of("{" + tensor("a", "F32", "[4294967296,4294967296,4]", "[0,0]") + "}", data),
       "overflows 64 bits"},
      {"ProductOverflowToZero",
       file_of("{" + tensor("a", "F32", "[4611686018427387904,4,0]", "[0,0]") + "}", ""),
       "overflows 64 bits"},
      {"SeventeenDimensions",
       file_of("{" + tensor("a", "F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]", "[0,8]") + "}",
               data),
       "more than 16 dimensions"},
      {"ShapeAgainstBytes", file_of("{" + tensor("a", "F32", "[3]", "[0,8]") + "}", data),
       "do not hold the 12 bytes"},
      {"OffsetsDescend", file_of("{" + tensor("a", "F32", "[2]", "[8,0]") + "}", data),
       "do not hold"},
      {"BeyondFile", file_of("{" + tensor("a", "F32", "[4]", "[0,16]") + "}", data), "truncated"},
      {"OffsetNearMaximum",
       file_of("{" + tensor("a", "F32", "[2]", "[9223372036854775799,9223372036854775807]") + "}",
               data),
       "hole"},
      {"Overlap", file_of("{" + a + "," + tensor("b", "F32", "[1]", "[4,8]") + "}", data),
       "overlaps"},
      {"SameBytesTwice", file_of("{" + a + "," + tensor("b", "F32", "[2]", "[0,8]") + "}", data),
       "overlaps"},
      {"Hole",
       file_of("{" + a + "," + tensor("b", "F32", "[1]", "[12,16]") + "}", std::string(16, 'x')),
       "hole"},
      {"HoleAtStart", file_of("{" + tensor("a", "F32", "[1]", "[4,8]") + "}", data), "hole"},
      {"BytesAtEnd", file_of("{" + a + "}", data + "y"), "beyond its last tensor"},
      {"SameNameTwice", file_of("{" + a + "," + tensor("a", "F32", "[0]", "[8,8]") + "}", data),
       "appears twice"},
      {"SameKeyTwice",
       file_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", data),
       "appears twice"},
      {"MetadataTwice", file_of("{\"__metadata__\":{},\"__metadata__\":{}," + a + "}", data),
       "appears twice"},
      {"MetadataKeyTwice", file_of("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}," + a + "}", data),
       "appears twice"},
      {"MetadataNumber", file_of("{\"__metadata__\":{\"k\":1}," + a + "}", data), "a number"},
      {"MetadataObject", file_of("{\"__metadata__\":{\"k\":{}}," + a + "}", data), "an object"},
      {"MetadataList", file_of("{\"__metadata__\":[]," + a + "}", data), "a list"},
      {"LongName",
       file_of("{" + tensor(std::string(2000, 'n').c_str(), "F32", "[2]", "[0,8]") + "}", data),
       "longer than 1024 bytes"},
  };
}

class BadSafetensors : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadSafetensors, IsRefusedNamingTheFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "bad.safetensors";
  write_bytes(path, GetParam().bytes);
  const std::string message = message_of(Category::data, [&] { SafetensorsReader reader(path); });
  EXPECT_EQ(message.rfind(path, 0), 0u) << message;
  EXPECT_NE(message.find(GetParam().expected), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(All, BadSafetensors, ::testing::ValuesIn(bad_files()),
                         [](const auto& each) { return std::string(each.param.name); });

TEST(Safetensors, TooManyTensorsAreRefused) {
  const TemporaryFolder folder;
  std::string header = "{";
  for (int i = 0; i < 100001; ++i)
    header += (i ? "," : "") + tensor(std::to_string(i).c_str(), "U8", "[0]", "[0,0]");
  write_bytes(folder / "many.safetensors", file_of(header + "}", ""));
  const std::string message =
      message_of(Category::data, [&] { SafetensorsReader reader(folder / "many.safetensors"); });
  EXPECT_NE(message.find("more than 100000"), std::string::npos) << message;
}

// Ten million tensors need half a gigabyte of header: refused by its length, before it is read.
TEST(Safetensors, HeaderOfTenMillionTensorsIsRefusedUnread) {
  const TemporaryFolder folder;
  const std::string path = folder / "huge.safetensors";
  write_bytes(path, little_endian(500'000'000) + "{");
  ASSERT_EQ(::truncate(path.c_str(), 500'000'008), 0);  // sparse
  const std::string message = message_of(Category::data, [&] { SafetensorsReader reader(path); });
  EXPECT_NE(message.find("at most 100000000"), std::string::npos) << message;
}

TEST(Safetensors, MissingFileFolderAndLink) {
  const TemporaryFolder folder;
  message_of(Category::io, [&] { SafetensorsReader reader(folder / "absent"); });
  message_of(Category::data, [&] { SafetensorsReader reader(folder.path()); });
  SafetensorsWriter writer(FileSystem::posix(), folder / "a");
  writer.finish();
  ASSERT_EQ(::symlink((folder / "a").c_str(), (folder / "link").c_str()), 0);
  EXPECT_NO_THROW(SafetensorsReader(folder / "link"));
  message_of(Category::data, [&] { SafetensorsReader reader(folder / "link", Links::refuse); });
}

}  // namespace
}  // namespace tessera::checkpoints::testing
