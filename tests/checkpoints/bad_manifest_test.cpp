// Manifests that lie or are hostile: refused with Error{data} naming the file, before anything of
// the checkpoint is used. Their own digest is right, so that what lies behind it is tested.
#include <filesystem>

#include "tests/checkpoints/bad_checkpoint.h"

namespace tessera::checkpoints::testing {
namespace {

namespace fs = std::filesystem;

TEST_F(BadCheckpoint, TheHelperSealsAsTheWriterDoes) {
  const std::string original = read_bytes(path_ + "/manifest.json");
  save_manifest(manifest_);
  EXPECT_EQ(read_bytes(path_ + "/manifest.json"), original);
  EXPECT_NO_THROW(CheckpointReader reader(path_));
}

TEST_F(BadCheckpoint, AnotherFolderName) {
  for (const char* name : {"step-00000008", "step-00000007.tmp", "step-00000007.old", "best"}) {
    const std::string other = folder_ / name;
    fs::rename(path_, other);
    const std::string message = message_of(Category::data, [&] { CheckpointReader reader(other); });
    EXPECT_NE(message.find("must be named step-00000007"), std::string::npos) << message;
    fs::rename(other, path_);
  }
}

TEST_F(BadCheckpoint, DuplicateKeys) {
  std::string text = manifest_.dump(1);
  text.insert(1, "\n \"step\": 7,");
  write_bytes(path_ + "/manifest.json", sealed(text));
  refused("manifest.json", "appears twice");
}

TEST_F(BadCheckpoint, NotJsonAndTooDeep) {
  write_bytes(path_ + "/manifest.json", sealed("{ what"));
  refused("manifest.json", "not valid JSON");
  write_bytes(path_ + "/manifest.json", std::string(100000, '['));
  refused("manifest.json", "deeper than 64");
  write_bytes(path_ + "/manifest.json", "{\"format\": \"\xff\xfe\"}");
  refused("manifest.json", "not valid JSON");
  write_bytes(path_ + "/manifest.json", "[]");
  refused("manifest.json", "expected a JSON object");
}

TEST_F(BadCheckpoint, DigestOfTheManifestItself) {
  std::string text = read_bytes(path_ + "/manifest.json");
  const std::size_t at = text.find("\"samples\": 112");
  ASSERT_NE(at, std::string::npos);
  text[at + 11] = '2';
  write_bytes(path_ + "/manifest.json", text);
  refused("manifest.json", "its own SHA-256 does not match");
  write_bytes(path_ + "/manifest.json", manifest_.dump(1));
  refused("manifest.json", "its own SHA-256 does not match");
}

TEST_F(BadCheckpoint, FormatAndVersion) {
  refused_manifest([](OrderedJson& j) { j["format"] = "tar"; }, "\"format\"");
  refused_manifest([](OrderedJson& j) { j["version"] = 2; },
                   "checkpoint format version 2, this program reads version 1; use a newer");
  refused_manifest([](OrderedJson& j) { j["version"] = 0; }, "version 0");
  refused_manifest([](OrderedJson& j) { j.erase("version"); }, "\"version\" is missing");
  refused_manifest([](OrderedJson& j) { j["version"] = "1"; }, "\"version\" is not a whole");
}

TEST_F(BadCheckpoint, NumbersOutOfPlace) {
  for (const char* key : {"step", "samples", "tokens", "skipped", "ranks", "threads"}) {
    refused_manifest([&](OrderedJson& j) { j[key] = -1; }, key);
    refused_manifest([&](OrderedJson& j) { j[key] = 1.5; }, key);
    refused_manifest([&](OrderedJson& j) { j[key] = 9223372036854775808u; }, key);
    refused_manifest([&](OrderedJson& j) { j.erase(key); }, key);
  }
  for (const char* key : {"config_hash", "train_digest", "valid_digest", "build", "written_at"}) {
    refused_manifest([&](OrderedJson& j) { j[key] = 5; }, key);
    refused_manifest([&](OrderedJson& j) { j.erase(key); }, key);
  }
  refused_manifest([](OrderedJson& j) { j["valid_loss"] = "low"; }, "valid_loss");
}

TEST_F(BadCheckpoint, NamesThatLeaveTheFolder) {
  for (const char* name :
       {"../secret", "/etc/passwd", "a/b", "..", ".", "", "a b", "caf\xc3\xa9", "part\n", "C:\\x"})
    refused_manifest([&](OrderedJson& j) { j["parts"][0]["file"] = name; },
                     "is not a plain file name");
  refused_manifest([](OrderedJson& j) { j["files"]["../config.yaml"] = j["files"]["config.yaml"]; },
                   "which this format does not have");
  refused_manifest([](OrderedJson& j) { j["parts"][1]["file"] = j["parts"][0]["file"]; },
                   "is listed twice");
}

TEST_F(BadCheckpoint, ListsOfOtherTypes) {
  for (const char* key : {"tensors", "parts"}) {
    refused_manifest([&](OrderedJson& j) { j[key] = 3; }, key);
    refused_manifest([&](OrderedJson& j) { j[key] = OrderedJson::array({1}); }, "JSON object");
    refused_manifest([&](OrderedJson& j) { j.erase(key); }, key);
  }
  refused_manifest([](OrderedJson& j) { j["files"] = 1; }, "\"files\"");
  refused_manifest([](OrderedJson& j) { j["files"].erase("config.yaml"); }, "lacks config.yaml");
  refused_manifest([](OrderedJson& j) { j["parts"][0]["slices"] = "all"; }, "\"slices\"");
  refused_manifest([](OrderedJson& j) { j["tensors"][0]["shape"] = 31; }, "\"shape\"");
  refused_manifest([](OrderedJson& j) { j["tensors"][0]["shape"][0] = "31"; }, "whole numbers");
  refused_manifest([](OrderedJson& j) { j["tensors"][0]["name"] = nullptr; }, "\"name\"");
}

TEST_F(BadCheckpoint, ShapesThatOverflowOrAreEmpty) {
  refused_manifest(
      [](OrderedJson& j) {
        j["tensors"][0]["shape"] = {4294967296, 4294967296};
      },
      "overflows 64 bits");
  refused_manifest([](OrderedJson& j) { j["tensors"][0]["shape"] = {1000000000000000000}; },
                   "overflows 64 bits");
  refused_manifest([](OrderedJson& j) { j["tensors"][0]["shape"] = {0, 5}; }, "extent 0");
  refused_manifest([](OrderedJson& j) { j["tensors"][0]["shape"] = {-31, 5}; }, "whole numbers");
  refused_manifest([](OrderedJson& j) { j["tensors"][0]["shape"] = {18446744073709551615u}; },
                   "whole numbers");
  refused_manifest([](OrderedJson& j) { j["tensors"][0]["shape"] = {31, 6}; }, "is in no part");
}

TEST_F(BadCheckpoint, SlicesThatDoNotCoverExactlyOnce) {
  const auto slice = [](OrderedJson& j, std::size_t i) -> OrderedJson& {
    return j["parts"][0]["slices"][i];
  };
  refused_manifest([&](OrderedJson& j) { j["parts"][0]["slices"].erase(0); }, "is in no part");
  refused_manifest([&](OrderedJson& j) { j["parts"].erase(1); }, "is in no part");
  refused_manifest([&](OrderedJson& j) { j["parts"][0]["slices"].push_back(slice(j, 0)); },
                   "is in two parts");
  refused_manifest([&](OrderedJson& j) { slice(j, 0)["tensor"] = 99; }, "tensor number 99 of 5");
  refused_manifest([&](OrderedJson& j) { slice(j, 0)["tensor"] = -1; }, "\"tensor\"");
  refused_manifest([&](OrderedJson& j) { slice(j, 0)["begin"] = 1; }, "is in no part");
  refused_manifest([&](OrderedJson& j) { slice(j, 0)["end"] = 9223372036854775807; },
                   "holds elements");
  refused_manifest([&](OrderedJson& j) { slice(j, 0)["end"] = 0; }, "holds elements");
  refused_manifest(
      [](OrderedJson& j) {
        j["tensors"].push_back({{"name", "x"}, {"shape", {1}}});
      },
      "tensor \"x\": element 0 is in no part");
  refused_manifest([](OrderedJson& j) { j["tensors"][1]["name"] = j["tensors"][0]["name"]; },
                   "is listed twice");
}

TEST_F(BadCheckpoint, RecordsOfFilesThatAreWrong) {
  refused_manifest([](OrderedJson& j) { j["parts"][0]["sha256"] = "abc"; }, "64 lower-case");
  refused_manifest([](OrderedJson& j) { j["parts"][0]["sha256"] = std::string(64, 'A'); },
                   "64 lower-case");
  refused_manifest([](OrderedJson& j) { j["parts"][0]["bytes"] = -5; }, "\"bytes\"");
  OrderedJson json = manifest_;
  json["parts"][0]["bytes"] = 1;
  save_manifest(json);
  refused("part-00000.safetensors", "the manifest says 1");
  json = manifest_;
  json["files"]["config.yaml"]["sha256"] = std::string(64, '0');
  save_manifest(json);
  refused("config.yaml", "SHA-256 differs");
}

}  // namespace
}  // namespace tessera::checkpoints::testing
