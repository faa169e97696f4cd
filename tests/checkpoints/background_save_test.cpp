// Saves written behind other work: what ranks learn, when, and what failures leave.
#include "checkpoints/background_save.h"

#include <atomic>
#include <csignal>
#include <filesystem>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "tests/checkpoints/background.h"
#include "tests/checkpoints/crash_disk.h"
#include "tests/checkpoints/faulty_files.h"
#include "tests/checkpoints/support.h"

namespace tessera::checkpoints::testing {
namespace {

// Files in which nothing can be created until open() is called.
class GatedFiles : public RecordingFiles {
 public:
  std::unique_ptr<WritableFile> create(const std::string& path) override {
    opened_.wait(false);
    return posix().create(path);
  }
  void open() {
    opened_ = true;
    opened_.notify_all();
  }

 private:
  std::atomic<bool> opened_ = false;
};

TEST(BackgroundSave, AnyNumberOfRanksSaveWhatTheyHold) {
  const TemporaryFolder folder;
  for (const std::int64_t ranks : {1, 2, 5}) {
    const SaveResult result =
        save_on_thread_ranks(FileSystem::posix(), folder / "checkpoints", ranks, ranks, 7);
    EXPECT_EQ(result.failure, "");
    EXPECT_EQ(result.warning, "");
    const CheckpointReader reader(result.path);
    EXPECT_TRUE(holds_values(reader, 7));
    EXPECT_EQ(reader.manifest().at("parts").size(), static_cast<std::size_t>(ranks));
    // keep = 1: the one before is gone.
    EXPECT_EQ(FileSystem::posix().list(folder / "checkpoints").size(), 1u);
  }
}

TEST(BackgroundSave, WorkGoesOnWhileFilesAreWritten) {
  const TemporaryFolder folder;
  GatedFiles files;
  const Values values = sample_values(sample_tensors(), 3);
  const auto ranks = comm::make_single();
  BackgroundSave save(files, *ranks);
  EXPECT_FALSE(save.in_flight());
  EXPECT_FALSE(save.ready());
  ASSERT_EQ(save.prepare(folder / "checkpoints", 4, 0), "");
  save.begin(sample_request(folder / "checkpoints", 4, 0, 1, values));
  // The call is back although no file can be created yet.
  EXPECT_TRUE(save.in_flight());
  EXPECT_FALSE(save.ready());
  message_of(Category::internal, [&] { (void)save.prepare(folder / "checkpoints", 5, 0); });
  files.open();
  const SaveResult result = save.wait();
  EXPECT_TRUE(holds_values(CheckpointReader(result.path), 3));
  EXPECT_FALSE(save.in_flight());
}

TEST(BackgroundSave, OneThatIsDroppedIsNeverLoadedAndTheNextTidiesUp) {
  const TemporaryFolder folder;
  const std::string at = folder / "checkpoints";
  save_on_thread_ranks(FileSystem::posix(), at, 1, 2, 1);
  const Values values = sample_values(sample_tensors(), 2);
  {
    const auto ranks = comm::make_single();
    BackgroundSave save(FileSystem::posix(), *ranks);
    ASSERT_EQ(save.prepare(at, 2, 0), "");
    save.begin(sample_request(at, 2, 0, 1, values));
  }
  std::vector<std::string> refused;
  EXPECT_EQ(newest_checkpoint(FileSystem::posix(), at, refused), at + "/step-00000001");
  EXPECT_TRUE(FileSystem::posix().exists(at + "/step-00000002.tmp"));
  save_on_thread_ranks(FileSystem::posix(), at, 3, 2, 3);
  EXPECT_EQ(FileSystem::posix().list(at), std::vector<std::string>{"step-00000003"});
}

TEST(BackgroundSave, TooLittleSpaceIsSaidOnAllRanksBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  const auto reasons = on_ranks<std::string>(3, [&](comm::Communicator& ranks) {
    BackgroundSave save(FileSystem::posix(), ranks);
    std::string reason = save.prepare(folder / "checkpoints", 5, std::int64_t{1} << 60);
    EXPECT_FALSE(save.in_flight());
    return reason;
  });
  EXPECT_NE(reasons[0].find("too little space"), std::string::npos) << reasons[0];
  EXPECT_EQ(reasons[1], reasons[0]);
  EXPECT_EQ(reasons[2], reasons[0]);
  EXPECT_TRUE(FileSystem::posix().list(folder / "checkpoints").empty());
}

class FailingDisk : public ::testing::TestWithParam<Failure> {};

// Call after call: the old checkpoint stays or the new one is there; every rank says why in one
// line; nothing is left of it; and the next save works.
TEST_P(FailingDisk, AtAnyCallIsToldAndLosesNothing) {
  const TemporaryFolder folder;
  const std::string start = folder / "start", work = folder / "work";
  write_checkpoint(FileSystem::posix(), start + "/checkpoints", 10, 2, 1);
  bool done = false;
  int failures = 0, warnings = 0;
  for (long n = 1; !done; ++n) {
    copy_folder(start, work);
    FaultyFiles files(work);
    files.fail_at(n, GetParam());
    const std::string at = work + "/checkpoints", when = "call " + std::to_string(n);
    const SaveResult result = save_on_thread_ranks(files, at, 20, 2, 2);
    done = files.calls() < n;
    failures += !result.failure.empty();
    warnings += !result.warning.empty();
    for (const std::string& said : {result.failure, result.warning}) {
      if (said.empty()) continue;
      EXPECT_EQ(said.find('\n'), std::string::npos) << said;
      EXPECT_NE(said.find(reason_of(GetParam())), std::string::npos) << said;
    }
    std::vector<std::string> refused;
    const std::string path = newest_checkpoint(FileSystem::posix(), at, refused);
    ASSERT_TRUE(refused.empty()) << when << ": " << refused[0];
    const bool is_new = path.ends_with("step-00000020");
    EXPECT_TRUE(holds_values(CheckpointReader(path), is_new ? 2 : 1)) << when;
    EXPECT_TRUE(is_new || !result.failure.empty()) << when << ": lost without a word";
    EXPECT_EQ(result.path.empty(), !result.failure.empty());
    const SaveResult next = save_on_thread_ranks(FileSystem::posix(), at, 30, 2, 3);
    EXPECT_TRUE(holds_values(CheckpointReader(next.path), 3)) << when;
    EXPECT_EQ(FileSystem::posix().list(at).size(), 1u) << when;
  }
  EXPECT_GT(failures, 15);
  if (GetParam() != Failure::no_space) {
    EXPECT_GT(warnings, 0);  // retention
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, FailingDisk,
                         ::testing::Values(Failure::input_output, Failure::no_space),
                         [](const auto& each) {
                           return each.param == Failure::no_space ? "NoSpace" : "InputOutput";
                         });

// Loading, call after call: the newest that can be read is loaded whole, and what could not is
// named; never nothing at all.
TEST(FailingDiskAtALoad, FallsBackByNameOrSaysThatItIsTheDisk) {
  const TemporaryFolder folder;
  const std::string at = folder / "run/checkpoints";
  write_checkpoint(FileSystem::posix(), at, 10, 2, 1);
  write_checkpoint(FileSystem::posix(), at, 20, 3, 2);
  bool done = false;
  int fallbacks = 0;
  for (long n = 1; !done; ++n) {
    FaultyFiles files(folder / "run");
    files.fail_at(n);
    std::vector<std::string> refused;
    const CheckpointReader reader(newest_checkpoint(files, at, refused));
    done = files.calls() < n;
    ASSERT_EQ(refused.size(), done ? 0u : 1u);
    EXPECT_EQ(reader.state().step, done ? 20 : 10);
    EXPECT_TRUE(holds_values(reader, done ? 2 : 1));
    if (done) break;
    ++fallbacks;
    EXPECT_EQ(refused[0].rfind("step-00000020: ", 0), 0u) << refused[0];
    EXPECT_NE(refused[0].find("Input/output error"), std::string::npos) << refused[0];
  }
  EXPECT_GE(fallbacks, 15);
  std::filesystem::remove_all(at + "/step-00000010");
  FaultyFiles files(folder / "run");
  files.fail_at(5);
  std::vector<std::string> refused;
  const std::string message =
      message_of(Category::io, [&] { newest_checkpoint(files, at, refused); });
  EXPECT_NE(message.find("none of its 1 checkpoints verifies"), std::string::npos) << message;
}

// The operating system itself writes short and then refuses: files may not grow beyond a limit.
TEST(BackgroundSave, ShortWritesOfTheSystemAreFailuresUntilTheFileFits) {
  const TemporaryFolder folder;
  const std::string at = folder / "checkpoints";
  write_checkpoint(FileSystem::posix(), at, 10, 2, 1);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  int failures = 0;
  for (rlim_t limit = 1;; limit = limit * 3 / 2 + 7) {
    rlimit now = before;
    now.rlim_cur = limit;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &now), 0);
    const SaveResult result = save_on_thread_ranks(FileSystem::posix(), at, 20, 2, 2);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    std::vector<std::string> refused;
    const std::string path = newest_checkpoint(FileSystem::posix(), at, refused);
    EXPECT_TRUE(refused.empty());
    EXPECT_TRUE(holds_values(CheckpointReader(path), result.failure.empty() ? 2 : 1));
    EXPECT_EQ(FileSystem::posix().list(at).size(), 1u);
    if (result.failure.empty()) break;
    EXPECT_NE(result.failure.find("File too large"), std::string::npos) << result.failure;
    ++failures;
  }
  EXPECT_GT(failures, 5);
  std::signal(SIGXFSZ, SIG_DFL);
}

}  // namespace
}  // namespace tessera::checkpoints::testing
