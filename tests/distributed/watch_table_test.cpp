// The watchdog's pure parts: the order of positions, the verdict, the table, slow ranks.
#include "comm/watch_table.h"

#include <algorithm>
#include <cstring>

#include <gtest/gtest.h>

#include "comm/stragglers.h"

namespace tessera::comm {
namespace {

Position at(Section section, std::int64_t step, std::int64_t micro_batch = 0,
            std::int64_t collective = 0) {
  Position position;
  position.section = section;
  position.step = step;
  position.micro_batch = micro_batch;
  position.collective = collective;
  std::strcpy(position.name, "sum");
  return position;
}

TEST(PositionTest, OrderIsThatOfTheWork) {
  const std::vector<Position> order = {at(Section::start, 0),      at(Section::resume, 0),
                                       at(Section::step, 1),       at(Section::step, 1, 1),
                                       at(Section::step, 1, 2),    at(Section::step, 1, 2, 5),
                                       at(Section::evaluation, 1), at(Section::checkpoint, 1, 0, 7),
                                       at(Section::step, 2),       at(Section::checkpoint, 100)};
  for (std::size_t i = 0; i < order.size(); ++i)
    for (std::size_t j = 0; j < order.size(); ++j)
      EXPECT_EQ(before(order[i], order[j]), i < j) << i << " " << j;
}

TEST(PositionTest, Words) {
  EXPECT_EQ(describe(at(Section::step, 12, 3, 34)), "step 12, micro-batch 3, collective 34 (sum)");
  EXPECT_EQ(describe(at(Section::checkpoint, 7)), "checkpoint after step 7");
  EXPECT_EQ(describe(at(Section::start, 0)), "start");
}

TEST(WatchTableTest, SilentRanksAreNamedFirst) {
  WatchTable table({"a", "a", "b", "b"});
  table.heard(2, at(Section::step, 4, 1, 11), 1);
  for (const int rank : {0, 1}) table.heard(rank, at(Section::step, 5, 2, 14), 20);
  table.heard(3, at(Section::step, 5, 1, 13), 20);
  const Verdict verdict = table.judge(19, 21);
  EXPECT_EQ(verdict.behind, std::vector<std::int64_t>{2});
  EXPECT_EQ(verdict.answered, 3);
  EXPECT_EQ(verdict.reason,
            "rank 2 (b) has been silent for 20.0 s, last at step 4, micro-batch 1, collective 11 "
            "(sum); the furthest rank is at step 5, micro-batch 2, collective 14 (sum)");
}

TEST(WatchTableTest, OfThoseThatAnswerTheLeastAdvancedAreBehind) {
  WatchTable table({"a", "b", "c"});
  table.heard(0, at(Section::step, 5, 2, 14), 20);
  table.heard(1, at(Section::step, 5, 2, 13), 20);
  table.heard(2, at(Section::step, 5, 2, 13), 20);
  const Verdict verdict = table.judge(19, 21);
  EXPECT_EQ(verdict.behind, (std::vector<std::int64_t>{1, 2}));
  EXPECT_NE(verdict.reason.find("rank 1 (b) is behind at step 5"), std::string::npos);
  EXPECT_NE(table.table(19, 21).find("behind"), std::string::npos);
}

TEST(WatchTableTest, NobodyBehindIsSaid) {
  WatchTable table({"a", "b"});
  for (const int rank : {0, 1}) table.heard(rank, at(Section::step, 5, 2, 14), 20);
  const Verdict verdict = table.judge(19, 21);
  EXPECT_TRUE(verdict.behind.empty());
  EXPECT_NE(verdict.reason.find("no rank is behind"), std::string::npos);
}

TEST(WatchTableTest, RanksThatLeftOrNeverCame) {
  WatchTable table({"a", "b", "c"});
  table.heard(0, at(Section::step, 5), 20);
  table.heard(1, at(Section::step, 3), 20);
  table.left(1, 20);
  const Verdict verdict = table.judge(19, 21);
  EXPECT_EQ(verdict.behind, (std::vector<std::int64_t>{1, 2}));
  EXPECT_NE(verdict.reason.find("rank 1 (b) has left, from step 3"), std::string::npos);
  EXPECT_NE(verdict.reason.find("rank 2 (c) was never heard"), std::string::npos);
  EXPECT_EQ(table.lowest_heard({1, 2}, 19), -1);
  EXPECT_EQ(table.lowest_heard({2, 1, 0}, 19), 0);
}

TEST(WatchTableTest, ManyRanksStayReadable) {
  WatchTable table(std::vector<std::string>(4096, "host"));
  for (int rank = 0; rank < 4096; ++rank)
    if (rank % 8 != 3) table.heard(rank, at(Section::step, 5), 20);
  const Verdict verdict = table.judge(19, 21);
  EXPECT_EQ(verdict.behind.size(), 512u);
  EXPECT_NE(verdict.reason.find("; and 508 more"), std::string::npos);
  EXPECT_LT(verdict.reason.size(), 700u);
  const std::string text = table.table(19, 21);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 65);  // a header and 64 ranks
  EXPECT_EQ(text.find("waiting"), std::string::npos);
}

TEST(WatchTableTest, SilenceIsWarnedOfOnceAndSoIsItsEnd) {
  WatchTable table({"a", "b", "c"});
  table.heard(0, at(Section::step, 1), 0);
  table.heard(1, at(Section::step, 1), 0);  // 2 was never heard: not silent yet
  EXPECT_TRUE(table.changes(10, 9).empty());
  table.heard(0, at(Section::step, 2), 10);
  EXPECT_EQ(table.changes(10, 11).size(), 1u);
  EXPECT_TRUE(table.changes(10, 12).empty());
  table.heard(1, at(Section::step, 2), 13);
  EXPECT_EQ(table.changes(10, 13), std::vector<std::string>{"rank 1 (b) is heard again"});
  table.heard(0, at(Section::step, 2), 20);
  table.heard(1, at(Section::step, 2), 20);
  EXPECT_EQ(table.changes(10, 20), std::vector<std::string>{"rank 2 (c) was never heard"});
}

// Every rank does one step of `seconds[rank]`; -> all warnings of `steps` such steps.
std::vector<std::string> warnings(Stragglers& stragglers, const std::vector<double>& seconds,
                                  std::int64_t from, std::int64_t to) {
  std::vector<std::string> all;
  for (std::int64_t step = from + 1; step <= to; ++step)
    for (std::size_t rank = 0; rank < seconds.size(); ++rank)
      for (std::string& warning : stragglers.note(static_cast<std::int64_t>(rank), step,
                                                  static_cast<double>(step) * seconds[rank]))
        all.push_back(std::move(warning));
  return all;
}

TEST(StragglersTest, WarnsOfARankMoreThanTwiceAsSlowOncePerHundredSteps) {
  Stragglers stragglers({0, 0, 0, 0});
  const std::vector<double> seconds = {0.10, 0.11, 0.25, 0.12};
  EXPECT_TRUE(warnings(stragglers, seconds, 0, 19).empty());
  const auto first = warnings(stragglers, seconds, 19, 25);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].rfind("rank 2 is slow", 0), 0u) << first[0];
  EXPECT_TRUE(warnings(stragglers, seconds, 25, 115).empty());
  EXPECT_EQ(warnings(stragglers, seconds, 115, 130).size(), 1u);
}

TEST(StragglersTest, TwiceIsNotMoreThanTwice) {
  Stragglers stragglers({0, 0, 0});
  EXPECT_TRUE(warnings(stragglers, {0.125, 0.125, 0.25}, 0, 200).empty());
}

TEST(StragglersTest, OfTwoRanksTheFasterIsTheMeasure) {
  Stragglers stragglers({0, 0});
  EXPECT_EQ(warnings(stragglers, {0.3, 0.1}, 0, 20).size(), 1u);
}

TEST(StragglersTest, StagesAreComparedWithTheirLike) {
  Stragglers stragglers({0, 1, 0, 1});
  EXPECT_TRUE(warnings(stragglers, {0.1, 0.5, 0.1, 0.6}, 0, 100).empty());
}

TEST(StragglersTest, WaitsForRanksThatReportSeldom) {
  Stragglers stragglers({0, 0});
  EXPECT_TRUE(stragglers.note(0, 500, 5).empty());
  EXPECT_TRUE(stragglers.note(1, 19, 19).empty());
  EXPECT_EQ(stragglers.note(1, 20, 20).size(), 1u);
}

TEST(StragglersTest, RecoveredRankIsNotWarnedOf) {
  Stragglers stragglers({0, 0, 0});
  EXPECT_EQ(warnings(stragglers, {0.1, 0.1, 0.5}, 0, 20).size(), 1u);
  std::vector<std::string> later;
  for (std::int64_t step = 21; step <= 300; ++step)
    for (int rank = 0; rank < 3; ++rank) {
      const double base = rank == 2 ? 20 * 0.5 : 20 * 0.1;
      for (auto& w : stragglers.note(rank, step, base + 0.1 * static_cast<double>(step - 20)))
        later.push_back(w);
    }
  EXPECT_TRUE(later.empty());
}

}  // namespace
}  // namespace tessera::comm
