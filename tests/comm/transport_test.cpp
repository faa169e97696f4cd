// The transports of the CPU, with what only they promise; meetings and split groups.
#include <chrono>
#include <thread>

#include <mpi.h>

#include "comm/element.h"
#include "comm/meeting.h"
#include "comm/mpi_communicator.h"
#include "core/error.h"
#include "core/float_formats.h"
#include "tests/comm/transport_cases.h"

namespace tessera::comm {
namespace {

INSTANTIATE_TEST_SUITE_P(Cpu, TransportTest,
                         ::testing::Values(TransportCase{"host", Device::cpu, false},
                                           TransportCase{"staged", Device::cpu, true}),
                         [](const auto& c) { return c.param.name; });

class Group : public ::testing::Test {
 protected:
  const std::unique_ptr<Communicator> world_ = make_mpi(MPI_COMM_WORLD);
  const std::int64_t rank_ = world_->rank(), size_ = world_->size();
  const DeviceStream compute_{Device::cpu, "compute"};
};

TEST_F(Group, Bf16AddsUpInFp32) {
  const auto transport = make_transport(*world_, {});
  // In bf16 256 + 1 is 256, however often.
  const std::uint16_t mine = float_to_bf16(rank_ == 0 ? 256.f : 1.f);
  std::vector<std::uint16_t> data(static_cast<std::size_t>(size_), mine);
  const float expected = bf16_to_float(float_to_bf16(256.f + static_cast<float>(size_ - 1)));
  transport->all_reduce(data.data(), size_, Element::bf16);
  for (const std::uint16_t value : data) EXPECT_EQ(bf16_to_float(value), expected);
  data.assign(data.size(), mine);
  transport->reduce_scatter(data.data(), 1, Element::bf16);
  EXPECT_EQ(bf16_to_float(data[static_cast<std::size_t>(rank_)]), expected);
}

TEST_F(Group, AMessageOfAnotherSizeIsAnError) {
  if (size_ == 1) GTEST_SKIP() << "messages need two ranks";
  const std::int64_t partner = rank_ ^ 1;
  for (const std::int64_t sent : {5, 7}) {  // for 6
    const auto transport = make_transport(*world_, {});
    std::vector<float> data(7);
    if (rank_ % 2 == 0 && partner < size_)
      transport->wait(transport->send(data.data(), sent, Element::fp32, partner), compute_);
    if (rank_ % 2 == 1) {
      const Ticket ticket = transport->receive(data.data(), 6, Element::fp32, partner);
      try {
        transport->wait(ticket, compute_);
        ADD_FAILURE() << sent << " elements were taken for 6";
      } catch (const Error& error) {
        EXPECT_EQ(error.category(), Category::device);
        EXPECT_NE(std::string(error.what()).find("receive (number 1)"), std::string::npos)
            << error.what();
      }
      transport->abort();
    }
    world_->barrier();
  }
}

TEST_F(Group, SplitsByColorInTheOrderOfKeys) {
  const auto parity = world_->split(rank_ % 2, rank_);
  ASSERT_TRUE(parity);
  EXPECT_EQ(parity->size(), (size_ + 1 - rank_ % 2) / 2);
  EXPECT_EQ(parity->rank(), rank_ / 2);
  double sum = static_cast<double>(rank_);
  parity->all_reduce(&sum, 1);
  double expected = 0;
  for (std::int64_t r = rank_ % 2; r < size_; r += 2) expected += static_cast<double>(r);
  EXPECT_EQ(sum, expected);

  EXPECT_EQ(world_->split(0, -rank_)->rank(), size_ - 1 - rank_);  // reversed
  EXPECT_EQ(world_->split(3, 0)->rank(), rank_);                   // equal keys
  const auto first = world_->split(rank_ == 0 ? 0 : -1, 0);
  ASSERT_EQ(first != nullptr, rank_ == 0);
  EXPECT_TRUE(!first || first->size() == 1);
  EXPECT_EQ(make_single()->split(5, 0)->size(), 1);
  EXPECT_EQ(make_single()->split(-1, 0), nullptr);
}

TEST_F(Group, TransportsOfSplitGroupsWorkSideBySide) {
  // A grid of two columns: sums along rows and columns.
  const std::int64_t columns = size_ % 2 == 0 ? 2 : 1;
  const auto row = world_->split(rank_ / columns, rank_);
  const auto column = world_->split(rank_ % columns, rank_);
  const auto along_row = make_transport(*row, {});
  const auto along_column = make_transport(*column, {});
  double value = static_cast<double>(rank_ + 1);
  along_row->all_reduce(&value, 1, Element::fp64);
  along_column->all_reduce(&value, 1, Element::fp64);
  EXPECT_EQ(value, static_cast<double>(size_ * (size_ + 1) / 2));
}

std::string meeting_error(Communicator& group, const std::string& name, double seconds) {
  try {
    meet(mpi_group(group), name, seconds);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::device);
    return error.what();
  }
}

TEST_F(Group, AMeetingNamesTheAbsentRank) {
  if (size_ == 1) GTEST_SKIP() << "nobody can be absent";
  EXPECT_EQ(meeting_error(*world_, "everybody", 20), "");
  const auto group = world_->split(0, rank_);
  if (rank_ == size_ - 1) std::this_thread::sleep_for(std::chrono::milliseconds(900));
  const std::string error = meeting_error(*group, "early birds", 0.4);
  // Told to those who waited, and to the late one at once.
  EXPECT_NE(error.find("rank " + std::to_string(size_ - 1) + " did not reach"), std::string::npos)
      << error;
  EXPECT_NE(error.find("early birds"), std::string::npos) << error;
  world_->barrier();
}

TEST_F(Group, AMeetingMissesRankZero) {
  if (size_ == 1) GTEST_SKIP() << "nobody can be absent";
  const auto group = world_->split(0, rank_);
  if (rank_ != 0) {
    const std::string error = meeting_error(*group, "headless", 0.2);
    EXPECT_NE(error.find("rank 0"), std::string::npos) << error;
  }
  world_->barrier();
}

TEST_F(Group, AMeetingRefusesRanksThatStartDifferentThings) {
  if (size_ == 1) GTEST_SKIP() << "nobody can differ";
  const auto group = world_->split(0, rank_);
  const std::string error = meeting_error(*group, rank_ == 1 ? "replicas" : "stages", 20);
  EXPECT_NE(error.find("'replicas'"), std::string::npos) << error;
  EXPECT_NE(error.find("'stages'"), std::string::npos) << error;
  world_->barrier();
}

}  // namespace
}  // namespace tessera::comm
