// The transports of GPUs: NCCL where every rank of the host has a GPU of its own, and MPI through
// host memory everywhere, two ranks on one GPU included.
#include <mpi.h>

#include "comm/mpi_communicator.h"
#include "comm/transports.h"
#include "core/error.h"
#include "tests/comm/transport_cases.h"

namespace tessera::comm {
namespace {

struct Local {
  int rank = 0, size = 1;
};
// This rank among those of its host.
Local local() {
  MPI_Comm host = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
  Local result;
  MPI_Comm_rank(host, &result.rank);
  MPI_Comm_size(host, &result.size);
  MPI_Comm_free(&host);
  return result;
}

// Both also choose the GPU. They are collective, and all ranks of a host answer alike.
std::string no_gpu() {
  const Local here = local();
  const int gpus = cuda_device_count();
  if (gpus == 0) return "no CUDA device";
  use_gpu(here.rank % gpus);
  return "";
}
std::string no_nccl() {
  if (nccl_version() == 0) return "this build has no NCCL";
  const std::string reason = no_gpu();
  if (reason.empty() && local().size > cuda_device_count())
    return "NCCL needs a GPU for each of the host's ranks";
  return reason;
}

INSTANTIATE_TEST_SUITE_P(Gpu, TransportTest,
                         ::testing::Values(TransportCase{"nccl", Device::cuda, false, no_nccl},
                                           TransportCase{"staged", Device::cuda, true, no_gpu}),
                         [](const auto& c) { return c.param.name; });

TEST(UseGpu, RefusesWhatIsNotThere) {
  try {
    use_gpu(cuda_device_count());
    ADD_FAILURE() << "a GPU beyond the last was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::device);
    EXPECT_NE(std::string(error.what()).find("CUDA_VISIBLE_DEVICES"), std::string::npos);
  }
}

#ifdef TESSERA_HAS_NCCL

class Nccl : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = no_nccl(); !reason.empty()) GTEST_SKIP() << reason;
    world_ = make_mpi(MPI_COMM_WORLD);
    compute_ = std::make_unique<DeviceStream>(Device::cuda, "compute");
  }
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<DeviceStream> compute_;
};

// Directly, so that a single GPU tries NCCL too.
TEST_F(Nccl, WorksFromOneRankOn) {
  const auto transport = make_nccl_transport(*world_, {});
  Values values(Device::cuda, *compute_, Element::fp32, 1000);
  std::vector<double> mine(1000), sums(1000);
  for (std::int64_t i = 0; i < 1000; ++i) {
    mine[static_cast<std::size_t>(i)] = value_of(world_->rank(), i);
    sums[static_cast<std::size_t>(i)] = sum_of(world_->size(), i);
  }
  values.set(mine);
  transport->after(*compute_);
  transport->wait(transport->all_reduce(values.data(), 1000, Element::fp32), *compute_);
  EXPECT_EQ(values.get(), sums);
}

TEST_F(Nccl, RunsInACapturedGraph) {
  const auto transport = make_nccl_transport(*world_, {});
  Values values(Device::cuda, *compute_, Element::fp32, 4099);
  const DeviceGraph graph(*compute_, [&] {
    transport->after(*compute_);
    transport->all_reduce(values.data(), 4099, Element::fp32);
    transport->wait(transport->broadcast(values.data(), 4099, Element::fp32), *compute_);
  });
  values.set(std::vector<double>(4099, 3));
  double expected = 3;
  for (int replay = 0; replay < 3; ++replay) {
    graph.launch(*compute_);
    expected *= static_cast<double>(world_->size());
  }
  EXPECT_EQ(values.get(), std::vector<double>(4099, expected));
  // Outside the graph the transport goes on.
  transport->after(*compute_);
  transport->wait(transport->all_reduce(values.data(), 4099, Element::fp32), *compute_);
  expected *= static_cast<double>(world_->size());
  EXPECT_EQ(values.get(), std::vector<double>(4099, expected));
}

TEST_F(Nccl, SeveralGroupsOfOneRankWorkAtOnce) {
  const auto first = make_nccl_transport(*world_, {});
  const auto second = make_nccl_transport(*world_, {});
  constexpr std::int64_t kCount = 1 << 20;
  Values a(Device::cuda, *compute_, Element::fp32, kCount);
  Values b(Device::cuda, *compute_, Element::bf16, kCount);
  a.set(std::vector<double>(kCount, 1));
  b.set(std::vector<double>(kCount, 2));
  first->after(*compute_);
  second->after(*compute_);
  Ticket of_a = 0, of_b = 0;
  for (int i = 0; i < 3; ++i) {
    of_a = first->all_reduce(a.data(), kCount, Element::fp32);
    of_b = second->all_reduce(b.data(), kCount, Element::bf16);
  }
  second->wait(of_b, *compute_);
  first->wait(of_a, *compute_);
  const auto n = static_cast<double>(world_->size());
  EXPECT_EQ(a.get(), std::vector<double>(kCount, n * n * n));
  EXPECT_EQ(b.get(), std::vector<double>(kCount, 2 * n * n * n));
}

#endif

}  // namespace
}  // namespace tessera::comm
