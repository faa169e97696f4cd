// RUN/exit.json: what it says, that the first one stands, and that stragglers write none.
#include "core/exit_record.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/file_system.h"
#include "core/json.h"

namespace tessera {
namespace {

class ExitRecordTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::string(TESSERA_BINARY_DIR) + "/tests/tmp-exit-record/" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    files_.remove_all(folder_);
    files_.create_directories(folder_);
  }
  std::string text() { return files_.read(exit_record_path(folder_), 1 << 16); }
  void hold(const std::string& who) { write_atomically(files_, folder_ + "/lock", who); }

  FileSystem& files_ = FileSystem::posix();
  std::string folder_;
};

TEST_F(ExitRecordTest, HoldsWhatWasGiven) {
  const ExitRecord record = {65, "shard \"x\"\nis torn", 3, 12, "step", {1, 2}, ""};
  ASSERT_TRUE(write_exit_record(exit_place(folder_), record));
  const Json json = parse_json(text(), "exit.json");
  EXPECT_EQ(json.at("code"), 65);
  EXPECT_EQ(json.at("reason"), record.reason);
  EXPECT_EQ(json.at("rank"), 3);
  EXPECT_EQ(json.at("step"), 12);
  EXPECT_EQ(json.at("section"), "step");
  EXPECT_EQ(json.at("behind"), Json({1, 2}));
  EXPECT_EQ(json.at("asked"), "");
  EXPECT_EQ(json.at("time").get<std::string>().size(), std::string("2026-01-31T12:00:00Z").size());
  EXPECT_EQ(json.size(), 8u);
}

TEST_F(ExitRecordTest, OneKeyALineForShells) {
  ASSERT_TRUE(write_exit_record(exit_place(folder_), {70, "a\nb", 0, 0, "start", {}, ""}));
  EXPECT_NE(text().find("\n\"code\": 70,\n\"reason\": \"a\\nb\",\n"), std::string::npos) << text();
}

TEST_F(ExitRecordTest, BytesThatAreNoTextAreReplaced) {
  ASSERT_TRUE(write_exit_record(exit_place(folder_), {70, "bad \xff name", 0, 0, "", {}, ""}));
  EXPECT_NO_THROW(parse_json(text(), "exit.json"));
}

TEST_F(ExitRecordTest, TheFirstStandsAndNothingElseIsLeft) {
  const ExitPlace place = exit_place(folder_);
  std::vector<std::thread> ranks;
  std::atomic<int> written = 0;
  for (int rank = 0; rank < 8; ++rank)
    ranks.emplace_back([&, rank] {
      written += write_exit_record(place, {70, "rank", rank, 0, "step", {}, ""});
    });
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(written, 1);
  EXPECT_EQ(files_.list(folder_), std::vector<std::string>{"exit.json"});
  const std::string first = text();
  EXPECT_FALSE(write_exit_record(place, {17, "later", 9, 0, "step", {}, ""}));
  EXPECT_EQ(text(), first);
  remove_exit_record(folder_);
  EXPECT_TRUE(write_exit_record(place, {17, "anew", 9, 0, "step", {}, ""}));
}

TEST_F(ExitRecordTest, AnotherJobsFolderIsLeftAlone) {
  hold("host a, pid 1");
  const ExitPlace mine = exit_place(folder_);
  hold("host b, pid 2");
  EXPECT_FALSE(write_exit_record(mine, {70, "late", 0, 0, "step", {}, ""}));
  EXPECT_FALSE(files_.exists(exit_record_path(folder_)));
  EXPECT_TRUE(write_exit_record(exit_place(folder_), {70, "mine", 0, 0, "step", {}, ""}));
}

TEST_F(ExitRecordTest, FailuresAreQuiet) {
  EXPECT_FALSE(write_exit_record({}, {70, "no folder yet", 0, 0, "start", {}, ""}));
  EXPECT_FALSE(
      write_exit_record({folder_ + "/absent", ""}, {70, "no folder", 0, 0, "start", {}, ""}));
  remove_exit_record(folder_ + "/absent");
}

}  // namespace
}  // namespace tessera
