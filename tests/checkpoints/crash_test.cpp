// A power cut at any point of a save in the background: whatever subset of what was not synced
// reached the disk, the old checkpoint or the new one loads, never a mix.
#include <gtest/gtest.h>

#include "tests/checkpoints/background.h"
#include "tests/checkpoints/crash_disk.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {
namespace {

constexpr std::uint64_t kOldSeed = 1, kNewSeed = 2;
constexpr std::int64_t kOldStep = 10;

struct Found {
  std::size_t states = 0, old_ones = 0, new_ones = 0;
};

// Every state a power cut may leave, at every point of `log` on top of `start`.
Found check_all(const std::string& start, const std::string& recorded_in,
                const std::vector<FileOperation>& log, std::int64_t new_step,
                const std::string& work) {
  Found found;
  for_each_state(start, recorded_in, log, [&](const auto& tree, std::size_t done) {
    const bool last = done == log.size();
    materialise(tree, work);
    const std::string where =
        "after " + std::to_string(done) + " of " + std::to_string(log.size()) + " operations";
    recover_checkpoints(FileSystem::posix(), work + "/checkpoints");
    std::vector<std::string> refused;
    std::string path;
    try {
      path = newest_checkpoint(FileSystem::posix(), work + "/checkpoints", refused);
    } catch (const Error& error) {
      ADD_FAILURE() << where << ": " << error.what();
      return;
    }
    EXPECT_TRUE(refused.empty()) << where << ": " << refused[0];
    if (path.empty()) {
      ADD_FAILURE() << where << ": nothing left";
      return;
    }
    const CheckpointReader reader(path);
    const bool is_new = holds_values(reader, kNewSeed);
    EXPECT_TRUE(is_new || holds_values(reader, kOldSeed)) << where << ": a mix";
    EXPECT_EQ(reader.state().step, is_new ? new_step : kOldStep) << where;
    EXPECT_TRUE(is_new || !last) << "the save was reported, and is lost";
    ++found.states;
    ++(is_new ? found.new_ones : found.old_ones);
  });
  return found;
}

class PowerCut : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(PowerCut, LeavesTheOldOrTheNewWhateverReachedTheDisk) {
  const TemporaryFolder folder;
  const std::string start = folder / "start", live = folder / "live";
  write_checkpoint(FileSystem::posix(), start + "/checkpoints", kOldStep, 2, kOldSeed);
  copy_folder(start, live);
  RecordingFiles files;
  const SaveResult result =
      save_on_thread_ranks(files, live + "/checkpoints", GetParam(), 2, kNewSeed);
  ASSERT_EQ(result.failure, "");
  ASSERT_GT(files.log.size(), 20u);
  const Found found = check_all(start, live, files.log, GetParam(), folder / "after");
  EXPECT_GT(found.old_ones, 50u);
  EXPECT_GT(found.new_ones, 10u);
  std::cout << files.log.size() << " operations, " << found.states << " states: " << found.old_ones
            << " old, " << found.new_ones << " new\n";
}

// The next step, with the old one removed by retention; and the same step again.
INSTANTIATE_TEST_SUITE_P(Steps, PowerCut, ::testing::Values(20, kOldStep));

// The simulator finds what it is for: a save that renames before it syncs is caught.
TEST(PowerCutSimulator, FindsASaveThatRenamesBeforeItSyncs) {
  const TemporaryFolder folder;
  const std::string start = folder / "start", live = folder / "live";
  write_checkpoint(FileSystem::posix(), start + "/checkpoints", kOldStep, 2, kOldSeed);
  copy_folder(start, live);
  RecordingFiles files;
  save_on_thread_ranks(files, live + "/checkpoints", 20, 2, kNewSeed);
  CrashDisk disk(start);
  bool mixed = false;
  for (FileOperation operation : files.log) {
    operation.path = start + operation.path.substr(live.size());
    if (operation.kind == FileOperation::Kind::sync) continue;  // the bug
    if (operation.kind == FileOperation::Kind::rename)
      operation.second = start + operation.second.substr(live.size());
    disk.apply(operation);
    if (operation.kind != FileOperation::Kind::rename) continue;
    materialise(disk.after_power_cut([&](std::size_t i) { return static_cast<int>(i % 2); }),
                folder / "after");
    std::vector<std::string> refused;
    try {
      newest_checkpoint(FileSystem::posix(), folder / "after/checkpoints", refused);
    } catch (const Error&) {
      mixed = true;
    }
    mixed = mixed || !refused.empty();
  }
  EXPECT_TRUE(mixed);
}

}  // namespace
}  // namespace tessera::checkpoints::testing
