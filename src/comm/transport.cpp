#include "comm/transport.h"

#include <spdlog/spdlog.h>

#include "comm/meeting.h"
#include "comm/mpi_communicator.h"
#include "comm/transports.h"
#include "core/error.h"

#ifdef TESSERA_HAS_NCCL
#include <nccl.h>
#endif

namespace tessera::comm {
namespace {

class Solo : public Transport {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t size() const override { return 1; }
  void after(const DeviceStream&) override {}
  void wait(Ticket ticket, const DeviceStream&) override {
    TESSERA_CHECK(ticket >= 1 && ticket <= last_);
  }
  Ticket all_reduce(void*, std::int64_t, Element) override { return ++last_; }
  Ticket reduce_scatter(void*, std::int64_t, Element) override { return ++last_; }
  Ticket all_gather(void*, std::int64_t, Element) override { return ++last_; }
  Ticket broadcast(void*, std::int64_t, Element) override { return ++last_; }
  Ticket send(const void*, std::int64_t, Element, std::int64_t) override { alone(); }
  Ticket receive(void*, std::int64_t, Element, std::int64_t) override { alone(); }
  Ticket exchange(const void*, std::int64_t, std::int64_t, void*, std::int64_t, std::int64_t,
                  Element) override {
    alone();
  }
  void abort() noexcept override {}

 private:
  [[noreturn]] static void alone() {
    throw Error(Category::internal,
                "a message in a group of one rank, which has nobody to send to");
  }
  Ticket last_ = 0;
};

#ifndef TESSERA_HAS_NCCL
void say_staged(const Communicator& group) {
  static bool said = false;
  if (!said && group.rank() == 0)
    spdlog::warn(
        "this build has no NCCL: GPUs exchange arrays through host memory and MPI, many times "
        "slower (install libnccl-dev and build again)");
  said = true;
}
#endif

}  // namespace

std::unique_ptr<Transport> make_solo_transport() {
  return std::make_unique<Solo>();
}

std::unique_ptr<Transport> make_transport(Communicator& group, const TransportOptions& options) {
  if (group.size() == 1) return make_solo_transport();
  meet(mpi_group(group), options.name, options.start_seconds);
  if (options.device == Device::cpu && !options.staged) return make_mpi_transport(group, options);
#ifdef TESSERA_HAS_NCCL
  if (!options.staged) return make_nccl_transport(group, options);
#else
  if (!options.staged) say_staged(group);
#endif
  return make_staged_transport(make_mpi_transport(group, options), options);
}

int nccl_version() {
  int version = 0;
#ifdef TESSERA_HAS_NCCL
  if (ncclGetVersion(&version) != ncclSuccess) version = 0;
#endif
  return version;
}

}  // namespace tessera::comm
