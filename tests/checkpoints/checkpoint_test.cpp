// Checkpoints: written in any number of parts, read whole or in ranges; what belongs to them is
// checked on the way in and out.
#include "checkpoints/checkpoint.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include <gtest/gtest.h>

#include "checkpoints/layout.h"
#include "checkpoints/locate.h"
#include "checkpoints/names.h"
#include "checkpoints/pin.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {
namespace {

using Kind = CheckpointReader::Kind;
namespace fs = std::filesystem;

FileSystem& posix() {
  return FileSystem::posix();
}

class CheckpointParts : public ::testing::TestWithParam<int> {};

TEST_P(CheckpointParts, AnyNumberOfPartsReadsBackToTheSameBits) {
  const TemporaryFolder folder;
  const std::string path = write_checkpoint(posix(), folder.path(), 120, GetParam(), 5);
  EXPECT_EQ(path, folder / "step-00000120");
  const CheckpointReader reader(path + "/");
  EXPECT_EQ(reader.path(), path);
  EXPECT_TRUE(holds_values(reader, 5));
  EXPECT_FALSE(holds_values(reader, 6));
  const TrainingState expected = sample_state(120), &state = reader.state();
  EXPECT_EQ(state.step, 120);
  EXPECT_EQ(state.samples, expected.samples);
  EXPECT_EQ(state.tokens, expected.tokens);
  EXPECT_EQ(state.skipped, expected.skipped);
  EXPECT_EQ(state.config_yaml, expected.config_yaml);
  EXPECT_EQ(state.config_hash, expected.config_hash);
  EXPECT_EQ(state.train_digest, expected.train_digest);
  EXPECT_EQ(state.valid_digest, "");
  EXPECT_EQ(state.ranks, 4);
  EXPECT_EQ(state.threads, 2);
  EXPECT_EQ(state.build, expected.build);
  EXPECT_EQ(state.valid_loss, expected.valid_loss);
  EXPECT_EQ(reader.tokenizer_json(), "{\"type\": \"bytes\"}");
  EXPECT_EQ(reader.manifest().at("parts").size(), static_cast<std::size_t>(GetParam()));
  EXPECT_FALSE(posix().exists(path + ".tmp"));
}

TEST_P(CheckpointParts, EveryRangeOfATensorReads) {
  const TemporaryFolder folder;
  const CheckpointReader reader(write_checkpoint(posix(), folder.path(), 1, GetParam(), 5));
  const auto tensors = sample_tensors();
  const Values values = sample_values(tensors, 5);
  const std::int64_t count = element_count(tensors[0], "test");
  for (std::int64_t begin = 0; begin <= count; begin += 3)
    for (std::int64_t end = begin; end <= count; end += 7) {
      std::vector<float> found(static_cast<std::size_t>(end - begin) + 1, -1);
      reader.read(Kind::v, tensors[0].name, begin, end, found.data());
      ASSERT_TRUE(std::equal(found.begin(), found.end() - 1, values.v.begin() + begin));
      ASSERT_EQ(found.back(), -1);  // nothing beyond the range
    }
}

INSTANTIATE_TEST_SUITE_P(All, CheckpointParts, ::testing::Values(1, 3, 4, 9));

TEST(Checkpoint, RangesAndNamesThatAreNotThereAreRefused) {
  const TemporaryFolder folder;
  const CheckpointReader reader(write_checkpoint(posix(), folder.path(), 1, 2, 5));
  float out = 0;
  message_of(Category::data, [&] { reader.read(Kind::param, "absent", 0, 1, &out); });
  message_of(Category::data, [&] { reader.read(Kind::param, "scalar.like", 0, 2, &out); });
  message_of(Category::data, [&] { reader.read(Kind::param, "scalar.like", -1, 0, &out); });
  message_of(Category::data, [&] { reader.read(Kind::param, "scalar.like", 1, 0, &out); });
  reader.read(Kind::param, "scalar.like", 1, 1, &out);
  EXPECT_EQ(out, 0);
}

TEST(Checkpoint, ValuesOfEveryKindSurvive) {
  const TemporaryFolder folder;
  const float odd[] = {0.0f, -0.0f, std::numeric_limits<float>::denorm_min(),
                       std::numeric_limits<float>::infinity(), std::nanf("7")};
  const std::vector<TensorInfo> tensors = {{"t", {5}}};
  TrainingState state = sample_state(0);
  state.valid_loss = std::nan("");
  const std::string temporary = prepare_checkpoint(posix(), folder.path(), 0, 0);
  const PartRecord part = write_part(posix(), temporary, 0, tensors, {{0, 0, 5, odd, odd, odd}});
  const PartRecord nothing = write_part(posix(), temporary, 1, tensors, {});
  const CheckpointReader reader(
      commit_checkpoint(posix(), folder.path(), temporary, state, tensors, {part, nothing}, ""));
  float found[5];
  reader.read(Kind::m, "t", 0, 5, found);
  EXPECT_EQ(std::memcmp(found, odd, sizeof odd), 0);
  EXPECT_TRUE(std::isnan(reader.state().valid_loss));
  EXPECT_EQ(reader.tokenizer_json(), "");
}

TEST(Checkpoint, PartsThatDoNotCoverTheModelAreNeverCommitted) {
  const auto tensors = sample_tensors();
  const Values values = sample_values(tensors, 1);
  const auto slices = cut(tensors, values, 3);
  const TemporaryFolder folder;
  const std::string temporary = prepare_checkpoint(posix(), folder.path(), 9, 0);
  std::vector<PartRecord> parts;
  for (int rank = 0; rank < 3; ++rank)
    parts.push_back(
        write_part(posix(), temporary, rank, tensors, slices[static_cast<std::size_t>(rank)]));
  const auto commit = [&](const std::vector<PartRecord>& records, Category category) {
    return message_of(category, [&] {
      commit_checkpoint(posix(), folder.path(), temporary, sample_state(9), tensors, records, "");
    });
  };
  EXPECT_NE(commit({parts[0], parts[2]}, Category::internal).find("is in no part"),
            std::string::npos);
  EXPECT_NE(
      commit({parts[0], parts[1], parts[1], parts[2]}, Category::internal).find("is in two parts"),
      std::string::npos);
  auto changed = parts;
  changed[1].bytes += 1;
  EXPECT_NE(commit(changed, Category::io).find("part-00001.safetensors"), std::string::npos);
  EXPECT_FALSE(posix().exists(folder / "step-00000009"));
  EXPECT_NO_THROW(
      commit_checkpoint(posix(), folder.path(), temporary, sample_state(9), tensors, parts, ""));
}

TEST(Checkpoint, TooLittleSpaceIsSaidBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  const std::int64_t needed = std::int64_t{1} << 60;
  const std::string message = message_of(
      Category::io, [&] { prepare_checkpoint(posix(), folder / "checkpoints", 5, needed); });
  EXPECT_NE(message.find(std::to_string(needed)), std::string::npos) << message;
  EXPECT_NE(message.find("available"), std::string::npos) << message;
  EXPECT_TRUE(posix().list(folder / "checkpoints").empty());
}

TEST(Checkpoint, PrepareClearsWhatEarlierSavesLeft) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "step-00000004.tmp/deep");
  fs::create_directories(folder / "step-00000005.tmp");
  fs::create_directories(folder / "mine.tmp");
  write_bytes(folder / "step-00000005.tmp/part-00009.safetensors", "left");
  const std::string temporary = prepare_checkpoint(posix(), folder.path(), 5, 0);
  EXPECT_EQ(temporary, folder / "step-00000005.tmp");
  EXPECT_EQ(posix().list(folder.path()),
            (std::vector<std::string>{"mine.tmp", "step-00000005.tmp"}));
  EXPECT_TRUE(posix().list(temporary).empty());
}

TEST(Checkpoint, SavingAStepAgainReplacesIt) {
  const TemporaryFolder folder;
  write_checkpoint(posix(), folder.path(), 7, 3, 1);
  const std::string path = write_checkpoint(posix(), folder.path(), 7, 2, 2);
  EXPECT_TRUE(holds_values(CheckpointReader(path), 2));
  EXPECT_EQ(posix().list(folder.path()), std::vector<std::string>{"step-00000007"});
}

TEST(Checkpoint, NamesGoBothWays) {
  EXPECT_EQ(checkpoint_name(100), "step-00000100");
  EXPECT_EQ(checkpoint_name(123456789012), "step-123456789012");
  for (const std::int64_t step : {0LL, 7LL, 99999999LL, 100000000LL, 123456789012LL})
    EXPECT_EQ(step_of_name(checkpoint_name(step)), step);
  for (const char* name :
       {"", "step-", "step-7", "step-000000007", "step-0000000x", "step-00000007.tmp",
        "step--0000007", "Step-00000007", "step-99999999999999999999"})
    EXPECT_FALSE(step_of_name(name)) << name;
}

TEST(Checkpoint, RetentionKeepsTheNewestAndTheMultiples) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {10, 20, 30, 40, 50, 60})
    write_checkpoint(posix(), folder.path(), step, 1, 1);
  fs::create_directories(folder / "step-00000070.tmp");
  fs::create_directories(folder / "notes");
  apply_retention(posix(), folder.path(), 2, 30);
  EXPECT_EQ(posix().list(folder.path()),
            (std::vector<std::string>{"notes", "step-00000030", "step-00000050", "step-00000060"}));
  apply_retention(posix(), folder.path(), 1, 0);
  EXPECT_EQ(posix().list(folder.path()), (std::vector<std::string>{"notes", "step-00000060"}));
}

TEST(Checkpoint, RetentionCountsOnlyCompleteOnes) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {10, 20, 30, 40})
    write_checkpoint(posix(), folder.path(), step, 1, 1);
  fs::remove(folder / "step-00000040/manifest.json");
  fs::resize_file(folder / "step-00000030/part-00000.safetensors", 100);
  apply_retention(posix(), folder.path(), 1, 0);
  EXPECT_EQ(posix().list(folder.path()),
            (std::vector<std::string>{"step-00000020", "step-00000030", "step-00000040"}));
}

TEST(Checkpoint, RetentionLeavesWhatSomebodyReads) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {10, 20, 30})
    write_checkpoint(posix(), folder.path(), step, 2, static_cast<std::uint64_t>(step));
  {
    const CheckpointReader reader(folder / "step-00000010");
    const CheckpointReader second(folder / "step-00000010", Verify::sizes);
    EXPECT_EQ(apply_retention(posix(), folder.path(), 1, 0),
              std::vector<std::string>{"step-00000010"});
    EXPECT_EQ(posix().list(folder.path()),
              (std::vector<std::string>{"step-00000010", "step-00000030"}));
    EXPECT_TRUE(holds_values(reader, 10));
  }
  EXPECT_TRUE(apply_retention(posix(), folder.path(), 1, 0).empty());
  EXPECT_EQ(posix().list(folder.path()), std::vector<std::string>{"step-00000030"});
}

TEST(Checkpoint, OneThatIsBeingRemovedIsNotOpened) {
  const TemporaryFolder folder;
  const std::string path = write_checkpoint(posix(), folder.path(), 10, 2, 1);
  {
    const auto removal = Pin::for_removal(path);
    ASSERT_TRUE(removal);
    EXPECT_FALSE(Pin::for_removal(path));
    EXPECT_NE(message_of(Category::data, [&] { CheckpointReader reader(path); }).find("removing"),
              std::string::npos);
  }
  EXPECT_NO_THROW(CheckpointReader reader(path));
}

TEST(Checkpoint, NewestThatVerifiesIsFoundAndOthersAreNamed) {
  const TemporaryFolder folder;
  std::vector<std::string> refused;
  EXPECT_EQ(newest_checkpoint(posix(), folder / "absent", refused), "");
  EXPECT_EQ(newest_checkpoint(posix(), folder.path(), refused), "");
  for (const std::int64_t step : {100, 200, 300, 400})
    write_checkpoint(posix(), folder.path(), step, 2, static_cast<std::uint64_t>(step));
  fs::create_directories(folder / "step-00000500.tmp");
  fs::rename(folder / "step-00000400", folder / "step-00000400.old");
  EXPECT_EQ(newest_checkpoint(posix(), folder.path(), refused), folder / "step-00000300");
  EXPECT_TRUE(refused.empty());
  std::string part = read_bytes(folder / "step-00000300/part-00001.safetensors");
  part[part.size() / 2] ^= 4;
  write_bytes(folder / "step-00000300/part-00001.safetensors", part);
  write_bytes(folder / "step-00000200/manifest.json", "");
  EXPECT_EQ(newest_checkpoint(posix(), folder.path(), refused), folder / "step-00000100");
  ASSERT_EQ(refused.size(), 2u);
  EXPECT_EQ(refused[0].rfind("step-00000300: part-00001.safetensors: SHA-256 differs", 0), 0u)
      << refused[0];
  EXPECT_EQ(refused[1], "step-00000200: manifest.json: is empty");
  fs::remove(folder / "step-00000100/config.yaml");
  refused.clear();
  const std::string message =
      message_of(Category::data, [&] { newest_checkpoint(posix(), folder.path(), refused); });
  EXPECT_NE(message.find("none of its 3 checkpoints verifies"), std::string::npos) << message;
  EXPECT_EQ(refused.size(), 3u);
}

TEST(Checkpoint, SizesAloneLetDamagedBytesThroughAndTruncationNot) {
  const TemporaryFolder folder;
  const std::string path = write_checkpoint(posix(), folder.path(), 1, 1, 1);
  const std::string file = path + "/part-00000.safetensors";
  std::string part = read_bytes(file);
  part.back() ^= 1;
  write_bytes(file, part);
  EXPECT_NO_THROW(CheckpointReader(path, Verify::sizes));
  message_of(Category::data, [&] { CheckpointReader reader(path); });
  write_bytes(file, part.substr(0, part.size() - 1));
  message_of(Category::data, [&] { CheckpointReader reader(path, Verify::sizes); });
}

TEST(Checkpoint, PeopleMayNameARunItsCheckpointsOrAStep) {
  const TemporaryFolder run;
  std::vector<std::string> refused;
  fs::create_directories(run / "checkpoints");
  const auto resolve = [&](const std::string& path) {
    return resolve_checkpoint(posix(), path, refused);
  };
  message_of(Category::data, [&] { resolve(run.path()); });
  message_of(Category::data, [&] { resolve(run / "checkpoints"); });
  write_checkpoint(posix(), run / "checkpoints", 3, 1, 1);
  const std::string path = write_checkpoint(posix(), run / "checkpoints", 12, 1, 1);
  EXPECT_EQ(resolve(run.path()), path);
  EXPECT_EQ(resolve(run.path() + "//"), path);
  EXPECT_EQ(resolve(run / "checkpoints"), path);
  EXPECT_EQ(resolve(run / "checkpoints/step-00000003"), run / "checkpoints/step-00000003");
  message_of(Category::config, [&] { resolve(run / "absent"); });
  fs::create_directories(run / "other");
  message_of(Category::config, [&] { resolve(run / "other"); });
}

TEST(Checkpoint, AsideFoldersComeBackOrGo) {
  const TemporaryFolder folder;
  write_checkpoint(posix(), folder.path(), 1, 1, 1);
  write_checkpoint(posix(), folder.path(), 2, 1, 2);
  fs::rename(folder / "step-00000001", folder / "step-00000001.old");
  copy_folder(folder / "step-00000002", folder / "step-00000002.old");
  fs::create_directories(folder / "step-00000001.tmp");
  recover_checkpoints(posix(), folder.path());
  EXPECT_EQ(posix().list(folder.path()),
            (std::vector<std::string>{"step-00000001", "step-00000002"}));
  EXPECT_TRUE(holds_values(CheckpointReader(folder / "step-00000001"), 1));
}

}  // namespace
}  // namespace tessera::checkpoints::testing
