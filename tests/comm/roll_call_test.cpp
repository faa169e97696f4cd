// The roll call: what is refused and how it is said, the table, and that every rank of a job hears
// the same verdict (under mpirun).
#include "comm/roll_call.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <mpi.h>

#include "comm/mpi_communicator.h"
#include "comm/transport.h"
#include "core/error.h"

namespace tessera::comm {
namespace {

// Two GPUs a host.
std::vector<Attendance> sound(std::int64_t ranks) {
  std::vector<Attendance> all;
  for (std::int64_t r = 0; r < ranks; ++r)
    all.push_back({r, r % 2, "node" + std::to_string(r / 2), "NVIDIA H100 80GB HBM3",
                   "GPU-" + std::to_string(r), "0.1.0+abc", 22803});
  return all;
}

Topology two_stages(std::int64_t ranks) {
  Topology t;
  t.world = ranks;
  t.stages = 2;
  t.replicas = ranks / 2;
  return t;
}

void expect_has(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
}

std::int64_t lines(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

TEST(RollCall, SoundJobsHaveNoProblem) {
  EXPECT_EQ(roll_call_problem(sound(1)), "");
  EXPECT_EQ(roll_call_problem(sound(64)), "");
  std::vector<Attendance> cpus = sound(4);
  for (Attendance& a : cpus) {
    a.gpu = a.gpu_id = "";
    a.nccl = 0;
  }
  EXPECT_EQ(roll_call_problem(cpus), "");
}

TEST(RollCall, TwoRanksOnAGpuAreNamed) {
  std::vector<Attendance> all = sound(6);
  all[5].gpu_id = all[4].gpu_id;
  expect_has(roll_call_problem(all), {"rank 4 (host node2", "rank 5 (host node2", "GPU-4"});
  // The same local rank on another host is another GPU; a GPU seen from two containers is not.
  all = sound(4);
  all[3].gpu_id = all[0].gpu_id;
  expect_has(roll_call_problem(all), {"rank 0 (host node0", "rank 3 (host node1"});
}

TEST(RollCall, MixedProgramsAndLibrariesAreNamed) {
  std::vector<Attendance> all = sound(6);
  all[3].build = "0.1.0+def";
  expect_has(roll_call_problem(all), {"rank 0", "0.1.0+abc", "rank 3", "0.1.0+def"});
  all = sound(6);
  all[2].nccl = 22300;
  expect_has(roll_call_problem(all), {"rank 2 (host node1", "NCCL 2.28.3", "2.23.0"});
  all[2].nccl = 0;
  expect_has(roll_call_problem(all), {"none"});
  all = sound(2);
  all[1].gpu = all[1].gpu_id = "";
  expect_has(roll_call_problem(all), {"the CPU", "H100", "device"});
}

TEST(RollCall, AnswersReadBack) {
  Attendance a = sound(3)[2];
  a.host = "node \"x\"\n\xff";
  EXPECT_NO_THROW(to_text(a));
  a.host = "node \"x\"";
  EXPECT_EQ(attendance_from_text(to_text(a)), a);
  for (const char* bad : {"", "{}", "[1]", "{\"rank\": \"one\"}"})
    EXPECT_THROW(attendance_from_text(bad), Error) << bad;
}

TEST(RollCall, TablesHaveALineARankOrAHost) {
  const std::string few = roll_call_table(sound(6), two_stages(6));
  EXPECT_EQ(lines(few), 7);
  expect_has(few, {"node2", "GPU-5", "stage", "replica"});
  EXPECT_EQ(lines(roll_call_table(sound(32), two_stages(32))), 33);
  // 32 hosts of two: a line each, and the last rank.
  const std::string many = roll_call_table(sound(64), two_stages(64));
  EXPECT_EQ(lines(many), 1 + 32 + 1);
  expect_has(many, {"node0 (2 ranks)", "node31 (2 ranks)", "GPU-63"});
  EXPECT_EQ(many.find("GPU-61"), std::string::npos);
}

TEST(RollCall, StagesAndReplicasFollowTheOrder) {
  Topology t = two_stages(4);
  std::vector<Attendance> all = sound(4);
  for (Attendance& a : all) a.gpu_id = "X";
  const auto ends = [&](std::int64_t rank) {
    std::string text = roll_call_table(all, t);
    for (std::int64_t i = 0; i <= rank; ++i) text = text.substr(text.find('\n') + 1);
    text = text.substr(0, text.find('\n'));
    return text.substr(text.find('X') + 1);
  };
  const auto numbers = [](std::string text) {
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    return text;
  };
  EXPECT_EQ(numbers(ends(1)), "10");  // stage 1, replica 0
  t.order = RankOrder::data_first;
  EXPECT_EQ(numbers(ends(1)), "01");
}

TEST(RollCall, EveryRankHearsTheVerdict) {
  const auto world = make_mpi(MPI_COMM_WORLD);
  Topology t;
  t.rank = world->rank();
  t.world = t.replicas = world->size();
  Attendance mine = attend(world->rank(), world->rank(), Device::cpu, "build");
  EXPECT_FALSE(mine.host.empty());
  EXPECT_EQ(mine.nccl, 0);
  const std::string table = roll_call(*world, t, mine);
  EXPECT_EQ(table.empty(), world->rank() != 0);
  if (world->rank() == 0) {
    EXPECT_EQ(lines(table), 1 + world->size());
  }
  if (world->size() == 1) return;
  // The last rank runs something else: all of them leave, with the same words.
  if (world->rank() == world->size() - 1) mine.build = "another";
  std::string words;
  try {
    roll_call(*world, t, mine);
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::config);
    words = error.what();
  }
  expect_has(words, {"rank 0", "rank " + std::to_string(world->size() - 1), "another"});
  EXPECT_EQ(broadcast_text(*world, words), words);
}

}  // namespace
}  // namespace tessera::comm
