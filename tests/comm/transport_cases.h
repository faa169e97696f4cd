// What every transport must do, whatever memory it serves: the fixture of transport_cases.cpp,
// which the CPU's and the GPU's test programs instantiate with their transports.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "comm/communicator.h"
#include "comm/transport.h"
#include "core/device_memory.h"
#include "core/device_stream.h"

namespace tessera::comm {

struct TransportCase {
  std::string name;
  Device device = Device::cpu;
  bool staged = false;
  // "" when it can run here, else why not.
  std::string (*obstacle)() = nullptr;
};

class TransportTest : public ::testing::TestWithParam<TransportCase> {
 protected:
  void SetUp() override;

  std::unique_ptr<Transport> make(Traffic traffic = Traffic::all) const;
  std::int64_t rank() const { return world_->rank(); }
  std::int64_t size() const { return world_->size(); }
  std::int64_t next() const { return (rank() + 1) % size(); }
  std::int64_t previous() const { return (rank() + size() - 1) % size(); }

  std::unique_ptr<Communicator> world_;
  std::unique_ptr<DeviceStream> compute_;
};

// Values of one element type in the memory of a device. What it is given and what is read from it
// go through copies on the compute stream, so a transport that does not keep to the stream's order
// works on the wrong values.
class Values {
 public:
  Values(Device device, const DeviceStream& compute, Element element, std::int64_t count);
  ~Values();
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;

  void* data() const { return live_; }
  std::byte* at(std::int64_t index) const { return live_ + index * element_bytes(element_); }
  void set(const std::vector<double>& values);
  std::vector<double> get() const;

 private:
  const Device device_;
  const DeviceStream& compute_;
  const Element element_;
  const std::int64_t count_;
  std::byte *live_, *outside_;
};

// The i-th value of a rank: small integers, whose sums over ranks are exact in every type.
double value_of(std::int64_t rank, std::int64_t i);
double sum_of(std::int64_t ranks, std::int64_t i);

}  // namespace tessera::comm
