// Saving while the disk fails, the process dies or the power goes, at every single call: what was
// there before is still there, whole, or what was being written is.
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/names.h"
#include "tests/checkpoints/faulty_files.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kOldSeed = 1, kNewSeed = 2;

// What a run does with its folder, starting from a complete checkpoint of step 10.
struct Scenario {
  const char* name;
  std::int64_t new_step;
  bool retention;
};

void PrintTo(const Scenario& scenario, std::ostream* out) {
  *out << scenario.name;
}

class Faults : public ::testing::TestWithParam<Scenario> {
 protected:
  Faults() {
    fs::create_directories(start_);
    write_checkpoint(FileSystem::posix(), start_ + "/checkpoints", 10, 2, kOldSeed);
  }

  // A fresh copy of the start, and the scenario in it. `prepare` sets the fault.
  void attempt(const std::function<void(FaultyFiles&)>& prepare) {
    copy_folder(start_, work_);
    files_ = std::make_unique<FaultyFiles>(work_);
    prepare(*files_);
    write_checkpoint(*files_, work_ + "/checkpoints", GetParam().new_step, 3, kNewSeed);
    if (GetParam().retention) apply_retention(*files_, work_ + "/checkpoints", 1, 0);
  }

  // Whether the checkpoint that the next start finds is the new one; it must be one of the two,
  // whole.
  bool next_start_finds_new(const std::string& root, const std::string& when) {
    const std::string folder = root + "/checkpoints";
    recover_checkpoints(FileSystem::posix(), folder);
    std::vector<std::string> refused;
    const std::string path = newest_checkpoint(FileSystem::posix(), folder, refused);
    EXPECT_TRUE(refused.empty()) << when << ": " << refused[0];
    if (path.empty()) {
      ADD_FAILURE() << when << ": no checkpoint left";
      return false;
    }
    const CheckpointReader reader(path);
    const bool is_new = holds_values(reader, kNewSeed), is_old = holds_values(reader, kOldSeed);
    EXPECT_TRUE(is_new != is_old) << when;
    EXPECT_EQ(reader.state().step, is_new ? GetParam().new_step : 10) << when;
    for (const std::string& name : FileSystem::posix().list(folder)) {
      EXPECT_TRUE(step_of_name(name)) << when << ": left behind " << name;
      EXPECT_NO_THROW(CheckpointReader(folder + "/" + name)) << when << ": half of " << name;
    }
    return is_new;
  }

  long calls_of_a_good_run() {
    attempt([](FaultyFiles&) {});
    EXPECT_TRUE(next_start_finds_new(work_, "without a fault"));
    return files_->calls();
  }

  const TemporaryFolder folder_;
  const std::string start_ = folder_ / "start", work_ = folder_ / "work";
  std::unique_ptr<FaultyFiles> files_;
};

INSTANTIATE_TEST_SUITE_P(All, Faults,
                         ::testing::Values(Scenario{"NextStep", 20, false},
                                           Scenario{"NextStepWithRetention", 20, true},
                                           Scenario{"SameStepAgain", 10, false}),
                         [](const auto& each) { return each.param.name; });

TEST_P(Faults, AnyFailingCallIsOneSentenceAndLosesNothing) {
  const long calls = calls_of_a_good_run();
  ASSERT_GT(calls, 30);
  bool seen_new = false;
  for (long n = 1; n <= calls; ++n) {
    const std::string when = "call " + std::to_string(n);
    bool failed = false;
    try {
      attempt([&](FaultyFiles& files) { files.fail_at(n); });
    } catch (const Error& error) {
      failed = true;
      const std::string message = error.what();
      EXPECT_EQ(error.category(), Category::io) << when;
      EXPECT_NE(message.find("Input/output error"), std::string::npos) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
    // Before any tidying: what a reader finds right now.
    std::vector<std::string> refused;
    const std::string path =
        newest_checkpoint(FileSystem::posix(), work_ + "/checkpoints", refused);
    EXPECT_FALSE(path.empty()) << when;
    const bool is_new = next_start_finds_new(work_, when);
    if (!failed) {
      EXPECT_TRUE(is_new) << when;
    }  // a swallowed failure may only be in tidying up
    // Once the new one is in place, later failures do not take it away.
    EXPECT_TRUE(is_new || !seen_new) << when;
    seen_new = seen_new || is_new;
    // And the next save works.
    write_checkpoint(FileSystem::posix(), work_ + "/checkpoints", 30, 1, kNewSeed);
  }
  EXPECT_TRUE(seen_new);
}

TEST_P(Faults, KilledAtAnyCallTheOldOrTheNewIsThere) {
  const long calls = calls_of_a_good_run();
  bool seen_old = false, seen_new = false;
  for (long n = 1; n <= calls; ++n) {
    EXPECT_THROW(attempt([&](FaultyFiles& files) { files.kill_at(n); }), Killed);
    const bool is_new = next_start_finds_new(work_, "killed at call " + std::to_string(n));
    EXPECT_TRUE(is_new || !seen_new) << n;
    (is_new ? seen_new : seen_old) = true;
  }
  EXPECT_TRUE(seen_old && seen_new);
}

TEST_P(Faults, AfterAPowerCutAtAnyCallTheOldOrTheNewIsThere) {
  const long calls = calls_of_a_good_run();
  for (const PowerCut cut : {PowerCut::keeps_nothing_unsynced, PowerCut::keeps_names}) {
    bool seen_new = false;
    for (long n = 1; n <= calls + 1; ++n) {
      try {
        attempt([&](FaultyFiles& files) { files.kill_at(n); });
      } catch (const Killed&) {
      }
      const std::string after = folder_ / "after";
      files_->write_durable(after, cut);
      const bool is_new =
          next_start_finds_new(after, "power cut at call " + std::to_string(n) +
                                          (cut == PowerCut::keeps_names ? ", names kept" : ""));
      EXPECT_TRUE(is_new || !seen_new) << n;
      seen_new = seen_new || is_new;
    }
    EXPECT_TRUE(seen_new);  // durable once the save has returned
  }
}

// The very first save of a run: nothing to fall back on, but nothing broken either.
TEST(FaultsOfTheFirstSave, NothingOrTheWholeCheckpoint) {
  const TemporaryFolder folder;
  const std::string work = folder / "work", after = folder / "after";
  bool done = false, seen = false;
  for (long n = 1; !done; ++n) {
    fs::remove_all(work);
    fs::create_directories(work);
    FaultyFiles files(work);
    files.kill_at(n);
    try {
      write_checkpoint(files, work + "/checkpoints", 5, 2, kNewSeed);
      done = true;
    } catch (const Killed&) {
    }
    for (const PowerCut cut : {PowerCut::keeps_nothing_unsynced, PowerCut::keeps_names}) {
      files.write_durable(after, cut);
      std::vector<std::string> refused;
      const std::string path =
          newest_checkpoint(FileSystem::posix(), after + "/checkpoints", refused);
      EXPECT_TRUE(refused.empty()) << n;
      seen = seen || !path.empty();
      if (!path.empty()) {
        EXPECT_TRUE(holds_values(CheckpointReader(path), kNewSeed)) << n;
      }
      if (done) {
        EXPECT_FALSE(path.empty());
      }
    }
  }
  EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace tessera::checkpoints::testing
