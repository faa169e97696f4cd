// Checkpoints that are damaged or incomplete: refused with Error{data} naming the file, before
// anything of them is used. And the frozen one, which must load for ever.
#include "tests/checkpoints/bad_checkpoint.h"

#include <filesystem>
#include <functional>

#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/safetensors.h"
#include "core/random.h"

namespace tessera::checkpoints::testing {
namespace {

namespace fs = std::filesystem;

TEST_F(BadCheckpoint, OneFlippedBitInAnyByteOfAnyFileIsFound) {
  for (const std::string& name : FileSystem::posix().list(path_)) {
    const std::string file = path_ + "/" + name, bytes = read_bytes(file);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      std::string bad = bytes;
      bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
      write_bytes(file, bad);
      try {
        CheckpointReader reader(path_);
        FAIL() << name << ": bit " << i % 8 << " of byte " << i;
      } catch (const Error& error) {
        ASSERT_EQ(error.category(), Category::data);
        ASSERT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      }
    }
    write_bytes(file, bytes);
  }
  EXPECT_NO_THROW(CheckpointReader reader(path_));
}

TEST_F(BadCheckpoint, AnyFileCutShortOrMissingIsFound) {
  for (const std::string& name : FileSystem::posix().list(path_)) {
    const std::string file = path_ + "/" + name, bytes = read_bytes(file);
    for (const std::size_t length :
         {std::size_t{0}, std::size_t{1}, bytes.size() / 2, bytes.size() - 1}) {
      write_bytes(file, bytes.substr(0, length));
      refused(name, "");
    }
    write_bytes(file, bytes + " ");
    refused(name, "");
    fs::remove(file);
    refused(name, "is missing");
    write_bytes(file, bytes);
  }
}

TEST_F(BadCheckpoint, ZeroLengthManifest) {
  write_bytes(path_ + "/manifest.json", "");
  refused("manifest.json", "is empty");
}

TEST_F(BadCheckpoint, ManifestOf65MegabytesIsNotRead) {
  fs::resize_file(path_ + "/manifest.json", 65 << 20);
  refused("manifest.json", "are allowed");
}

TEST_F(BadCheckpoint, SymbolicLinksAreNotFollowed) {
  for (const char* name : {"manifest.json", "config.yaml", "part-00001.safetensors"}) {
    const std::string file = path_ + "/" + name, aside = folder_ / "aside";
    fs::rename(file, aside);
    ASSERT_EQ(::symlink(aside.c_str(), file.c_str()), 0);
    refused(name, "symbolic link");
    fs::remove(file);
    fs::rename(aside, file);
  }
}

TEST_F(BadCheckpoint, FoldersAndPipesInPlaceOfFiles) {
  const std::string file = path_ + "/part-00000.safetensors";
  fs::remove(file);
  fs::create_directory(file);
  refused("part-00000.safetensors", "not a regular file");
  fs::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  refused("part-00000.safetensors", "not a regular file");
}

// Parts whose digests are right but which hold something else than the manifest says.
TEST_F(BadCheckpoint, PartsWithOtherContents) {
  const std::string file = path_ + "/part-00000.safetensors";
  const auto replace = [&](const std::function<void(SafetensorsWriter&)>& fill) {
    SafetensorsWriter writer(FileSystem::posix(), file);
    fill(writer);
    const auto result = writer.finish();
    OrderedJson json = manifest_;
    json["parts"][0]["bytes"] = result.bytes;
    json["parts"][0]["sha256"] = result.sha256;
    save_manifest(json);
  };
  replace([](SafetensorsWriter&) {});
  refused("part-00000.safetensors", "holds 0 arrays");
  const auto slices = manifest_["parts"][0]["slices"];
  const auto with_type = [&](TensorType type, std::int64_t extra) {
    replace([&](SafetensorsWriter& writer) {
      std::vector<std::int64_t> counts;
      for (const char* prefix : {"param.", "m.", "v."})
        for (const auto& slice : slices) {
          const std::int64_t begin = slice["begin"], end = slice["end"];
          const std::string name = manifest_["tensors"][slice["tensor"].get<std::size_t>()]["name"];
          counts.push_back(end - begin + extra);
          writer.declare(
              prefix + name + "[" + std::to_string(begin) + ":" + std::to_string(end) + "]", type,
              {counts.back()});
        }
      for (const std::int64_t count : counts) {
        const std::string zeros(static_cast<std::size_t>(count * element_bytes(type)), '\0');
        writer.append(zeros.data(), static_cast<std::int64_t>(zeros.size()));
      }
    });
  };
  with_type(TensorType::f32, 0);
  EXPECT_NO_THROW(CheckpointReader reader(path_));
  with_type(TensorType::f32, 1);
  refused("part-00000.safetensors", "lacks the F32 array");
  with_type(TensorType::bf16, 0);
  refused("part-00000.safetensors", "lacks the F32 array");
  write_bytes(file, "not safetensors at all");
  OrderedJson json = manifest_;
  json["parts"][0]["bytes"] = 22;
  json["parts"][0]["sha256"] = sha256("not safetensors at all");
  save_manifest(json);
  refused("part-00000.safetensors", "safetensors header");
}

// Seeded random damage: any outcome but an Error{data} or a sound object is a bug.
std::string mutated(const std::string& bytes, std::uint64_t round) {
  const CounterRandom random(99, round);
  std::string bad = bytes;
  const auto below = [&](std::uint64_t index, std::size_t limit) {
    return static_cast<std::size_t>(random.bits(index) % limit);
  };
  const std::size_t changes = 1 + below(0, 4);
  for (std::size_t i = 0; i < changes && !bad.empty(); ++i) {
    const std::size_t at = below(4 * i + 1, bad.size());
    switch (below(4 * i + 2, 5)) {
      case 0:
        bad[at] = static_cast<char>(bad[at] ^ (1 << below(4 * i + 3, 8)));
        break;
      case 1:
        bad[at] = "0129-[]{}\",:eE.x"[below(4 * i + 3, 16)];
        break;
      case 2:
        bad.resize(at);
        break;
      case 3:
        bad.erase(at, 1 + below(4 * i + 3, 12));
        break;
      default:
        bad.insert(at, bad.substr(below(4 * i + 3, bad.size()), 20));
        break;
    }
  }
  return bad;
}

template <typename Open>
void survives(Open&& open, int& refusals) {
  try {
    open();
  } catch (const Error& error) {
    ASSERT_EQ(error.category(), Category::data) << error.what();
    ++refusals;
  }
}

TEST_F(BadCheckpoint, RandomDamageToManifestsNeverCrashes) {
  const std::string body = manifest_.dump(1);
  int refusals = 0;
  for (std::uint64_t round = 0; round < 3000; ++round) {
    const std::string bad = mutated(body, round);
    // With a right digest, so that the damage reaches what lies behind it.
    write_bytes(path_ + "/manifest.json", round % 8 == 0 ? bad : sealed(bad));
    survives([&] { CheckpointReader reader(path_); }, refusals);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(refusals, 2500);
}

TEST_F(BadCheckpoint, RandomDamageToSafetensorsNeverCrashes) {
  const std::string path = folder_ / "damaged.safetensors";
  SafetensorsWriter writer(FileSystem::posix(), path);
  writer.set_metadata("format", "pt");
  writer.declare("a.weight", TensorType::f32, {2, 3});
  writer.declare("b", TensorType::bf16, {5});
  writer.declare("ids", TensorType::i64, {2});
  writer.append(std::string(50, 'x').data(), 50);
  writer.finish();
  const std::string bytes = read_bytes(path);
  int refusals = 0;
  for (std::uint64_t round = 0; round < 4000; ++round) {
    write_bytes(path, mutated(bytes, round));
    survives(
        [&] {
          const SafetensorsReader reader(path);
          for (const TensorEntry& entry : reader.tensors()) {
            // Touch every byte that the header claims.
            std::vector<float> values(static_cast<std::size_t>(entry.count()));
            if (entry.type == TensorType::f32 || entry.type == TensorType::bf16)
              reader.read_floats(entry, 0, entry.count(), values.data());
            else
              reader.read_integers(entry);
          }
        },
        refusals);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(refusals, 1500);
}

// Written by version 0.1.0 and frozen: never write it anew, or old checkpoints are not covered.
TEST(FrozenCheckpoint, Version1Loads) {
  using Kind = CheckpointReader::Kind;
  const CheckpointReader reader(std::string(TESSERA_SOURCE_DIR) +
                                "/tests/checkpoints/fixtures/checkpoint-v1/step-00000003");
  const TrainingState& state = reader.state();
  EXPECT_EQ(state.step, 3);
  EXPECT_EQ(state.samples, 48);
  EXPECT_EQ(state.tokens, 3072);
  EXPECT_EQ(state.skipped, 1);
  EXPECT_EQ(state.valid_loss, 2.3025850929940455);
  EXPECT_EQ(state.ranks, 2);
  EXPECT_EQ(state.config_yaml, "seed: 7\n");
  EXPECT_EQ(state.build, "0.1.0");
  EXPECT_EQ(reader.tokenizer_json(), "{\"type\": \"bytes\"}");
  ASSERT_EQ(reader.tensors().size(), 3u);
  EXPECT_EQ(reader.tensors()[2].shape, (std::vector<std::int64_t>{6, 3, 1}));
  float value = 0;
  for (const TensorInfo& tensor : reader.tensors())
    for (std::int64_t i = 0; i < tensor.shape[0] * (tensor.shape.size() > 1 ? tensor.shape[1] : 1);
         ++i) {
      float found[3];
      reader.read(Kind::param, tensor.name, i, i + 1, found);
      reader.read(Kind::m, tensor.name, i, i + 1, found + 1);
      reader.read(Kind::v, tensor.name, i, i + 1, found + 2);
      EXPECT_EQ(found[0], value);
      EXPECT_EQ(found[1], -value / 4);
      EXPECT_EQ(found[2], value / 1024);
      value += 0.5f;
    }
  EXPECT_EQ(value, 27.5f);
}

}  // namespace
}  // namespace tessera::checkpoints::testing
