// Watchdogs of several ranks within one process, over real sockets: limits, verdicts, silence,
// signs of life, and what is written at the end. `leave` is a flag here; the end of real processes
// is tested by restart_test.py and hosts_test.py.
#include "comm/watchdog.h"

#include <atomic>
#include <barrier>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "comm/watch_socket.h"
#include "core/error.h"
#include "core/file_system.h"
#include "core/json.h"

namespace tessera::comm {
namespace {

using namespace std::chrono_literals;

// Ranks of one process: an exchange among threads, a watchdog each.
class Job {
 public:
  Job(int size, double step_seconds, const std::string& folder)
      : codes(static_cast<std::size_t>(size)), dogs(static_cast<std::size_t>(size)) {
    std::barrier meeting(size);
    texts.resize(static_cast<std::size_t>(size));
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < size; ++rank)
      ranks.emplace_back([&, rank] {
        const auto r = static_cast<std::size_t>(rank);
        WatchdogOptions options;
        options.start_seconds = options.checkpoint_seconds = 60;
        options.step_seconds = step_seconds;
        options.beat_seconds = 0.05;
        options.grace_seconds = 0.01;
        options.leave = [this, r](int code) { codes[r] = code; };
        dogs[r] = std::make_unique<Watchdog>(
            rank, size,
            [&](const std::string& mine) {
              texts[r] = mine;
              meeting.arrive_and_wait();
              return texts;
            },
            options);
        dogs[r]->set_place({folder, ""});
      });
    for (std::thread& rank : ranks) rank.join();
  }

  bool wait_for_end(std::size_t rank, double seconds) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (codes[rank] == 0 && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(5ms);
    return codes[rank] != 0;
  }

  std::vector<std::string> texts;       // what the ranks told each other
  std::vector<std::atomic<int>> codes;  // what a rank left with; 0: it has not
  std::vector<std::unique_ptr<Watchdog>> dogs;
};

class WatchdogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::string(TESSERA_BINARY_DIR) + "/tests/tmp-watchdog/" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    FileSystem::posix().remove_all(folder_);
    FileSystem::posix().create_directories(folder_);
  }
  Json record() {
    return parse_json(FileSystem::posix().read(exit_record_path(folder_), 1 << 16), "exit.json");
  }
  bool recorded() { return FileSystem::posix().exists(exit_record_path(folder_)); }
  std::string folder_;
};

TEST_F(WatchdogTest, OneRankLeavesAfterItsLimit) {
  Job job(1, 0.2, folder_);
  std::atomic<int> aborted = 0;
  job.dogs[0]->set_hooks([&] { ++aborted; }, [] { return std::string("sum 3"); });
  job.dogs[0]->post(Section::step, 7);
  job.dogs[0]->post_collective("sum");
  ASSERT_TRUE(job.wait_for_end(0, 10));
  EXPECT_EQ(job.codes[0], 70);
  EXPECT_EQ(aborted, 1);
  EXPECT_EQ(record().at("step"), 7);
  EXPECT_EQ(record().at("section"), "step");
  EXPECT_EQ(record().at("code"), 70);
}

TEST_F(WatchdogTest, PostingKeepsItQuiet) {
  Job job(2, 0.3, folder_);
  for (int step = 1; step <= 10; ++step) {
    for (const auto& dog : job.dogs) dog->post(Section::step, step, 1);
    std::this_thread::sleep_for(100ms);
  }
  EXPECT_EQ(job.codes[0] + job.codes[1], 0);
  EXPECT_FALSE(recorded());
}

TEST_F(WatchdogTest, MicroBatchesRestartTheClockInEvaluationAlone) {
  Job job(1, 0.5, folder_);
  for (int m = 1; m <= 10; ++m) {
    job.dogs[0]->post(Section::evaluation, 3, m);
    std::this_thread::sleep_for(100ms);
  }
  EXPECT_EQ(job.codes[0], 0);
  for (int m = 1; m <= 20 && job.codes[0] == 0; ++m) {
    job.dogs[0]->post(Section::step, 4, m);
    std::this_thread::sleep_for(100ms);
  }
  EXPECT_EQ(job.codes[0], 70);
}

TEST_F(WatchdogTest, EveryRankLeavesAndNamesTheOneBehind) {
  Job job(5, 0.3, folder_);
  std::atomic<int> aborted = 0;
  for (std::size_t rank = 0; rank < 5; ++rank) {
    job.dogs[rank]->set_hooks([&] { ++aborted; }, nullptr);
    job.dogs[rank]->post(Section::step, 12, 3);
    if (rank != 3) job.dogs[rank]->post_collective("gradient reduction");
  }
  for (std::size_t rank = 0; rank < 5; ++rank) EXPECT_TRUE(job.wait_for_end(rank, 10)) << rank;
  EXPECT_EQ(aborted, 5);
  EXPECT_EQ(record().at("behind"), Json::array({3}));
  const auto reason = record().at("reason").get<std::string>();
  EXPECT_NE(reason.find("rank 3 ("), std::string::npos) << reason;
  EXPECT_NE(reason.find("is behind at step 12, micro-batch 3"), std::string::npos) << reason;
}

TEST_F(WatchdogTest, OneAlarmTakesAllRanksAlong) {
  // Ranks whose own limit is far away, as in a checkpoint.
  Job job(4, 0.3, folder_);
  for (const std::size_t rank : {0, 1, 2}) job.dogs[rank]->post(Section::checkpoint, 12);
  job.dogs[3]->post(Section::step, 12);
  for (std::size_t rank = 0; rank < 4; ++rank) EXPECT_TRUE(job.wait_for_end(rank, 10)) << rank;
  EXPECT_EQ(record().at("behind"), Json::array({3}));
}

TEST_F(WatchdogTest, RanksThatLeftAreNamed) {
  for (const std::size_t gone : {0, 4}) {  // a reporter and another
    SCOPED_TRACE(gone);
    remove_exit_record(folder_);
    Job job(5, 0.4, folder_);
    for (const auto& dog : job.dogs) dog->post(Section::step, 2);
    std::this_thread::sleep_for(200ms);
    job.dogs[gone].reset();
    for (std::size_t rank = 0; rank < 5; ++rank)
      EXPECT_EQ(job.wait_for_end(rank, rank == gone ? 0 : 10), rank != gone) << rank;
    EXPECT_EQ(record().at("behind"), Json::array({gone}));
    EXPECT_NE(record().at("reason").get<std::string>().find("has left"), std::string::npos);
  }
}

TEST_F(WatchdogTest, NoFolderNoRecord) {
  Job job(1, 0.1, "");
  job.dogs[0]->post(Section::step, 1);
  ASSERT_TRUE(job.wait_for_end(0, 10));
  EXPECT_FALSE(recorded());
}

TEST_F(WatchdogTest, ThrowingHooksDoNotKeepARank) {
  Job job(1, 0.1, folder_);
  std::atomic<bool> aborted = false;
  job.dogs[0]->set_hooks(
      [&] {
        aborted = true;
        throw std::runtime_error("abort failed");
      },
      []() -> std::string { throw std::runtime_error("no record"); });
  job.dogs[0]->post(Section::step, 1);
  EXPECT_TRUE(job.wait_for_end(0, 10));
  EXPECT_TRUE(recorded());
  EXPECT_TRUE(aborted);
}

TEST_F(WatchdogTest, StrangersPacketsChangeNothing) {
  Job job(2, 30, folder_);
  WatchSocket stranger;
  WatchPacket packet;
  packet.kind = WatchKind::verdict;
  packet.token = 1;
  const std::string text = "{\"reason\":\"x\",\"behind\":[],\"answered\":1}";
  packet.length = static_cast<std::uint32_t>(text.copy(packet.text, sizeof packet.text));
  const auto send = [&](std::uint64_t token, int from, int to) {
    packet.token = token;
    packet.from = from;
    packet.to = to;
    const auto port = parse_json(job.texts[0], "rank 0").at("port").get<std::uint16_t>();
    stranger.send(packet, WatchSocket::address("127.0.0.1", port));
  };
  const auto token = parse_json(job.texts[0], "rank 0").at("token").get<std::uint64_t>();
  send(token + 1, 1, 0);  // another job
  send(token, 1, 1);      // for another rank
  send(token, 2, 0);      // from no rank of this job
  send(token, -1, 0);
  send(token, 0, 0);
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(job.codes[0], 0);
  send(token, 1, 0);  // the same packet from its own
  EXPECT_TRUE(job.wait_for_end(0, 10));
}

TEST(WatchSocketTest, PacketsArriveWholeOrNotAtAll) {
  WatchSocket a, b;
  const sockaddr_in to = WatchSocket::address("127.0.0.1", b.port());
  WatchPacket packet, got;
  sockaddr_in from{};
  packet.length = 5;
  std::copy_n("hello", 5, packet.text);
  packet.position.step = 42;
  a.send(packet, to);
  ASSERT_TRUE(b.receive(got, from, 5));
  EXPECT_EQ(std::string(got.text, got.length), "hello");
  EXPECT_EQ(got.position.step, 42);
  EXPECT_EQ(ntohs(from.sin_port), a.port());
  packet.length = 9000;  // says more than it holds
  a.send(packet, to);
  EXPECT_FALSE(b.receive(got, from, 0.2));
  EXPECT_FALSE(b.receive(got, from, 0));
  EXPECT_THROW(WatchSocket::address("host", 1), Error);
}

TEST(WatchSocketTest, WakeEndsAWait) {
  WatchSocket socket;
  std::thread other([&] {
    std::this_thread::sleep_for(50ms);
    socket.wake();
  });
  WatchPacket packet;
  sockaddr_in from{};
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(socket.receive(packet, from, 20));
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  other.join();
}

}  // namespace
}  // namespace tessera::comm
