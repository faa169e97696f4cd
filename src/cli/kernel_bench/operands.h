// The memory that one run of an operation works on: random numbers (zeros run faster than real
// data), with a count of the bytes that the run has to move.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "core/device_memory.h"
#include "kernels/dtype.h"

namespace tessera::cli {

struct FreeMemory {
  Device device = Device::cpu;
  void operator()(std::byte* memory) const { free_memory(device, memory); }
};
using OwnedMemory = std::unique_ptr<std::byte, FreeMemory>;

// How numbers are distributed: N(mean, deviation).
struct Spread {
  double deviation = 1, mean = 0;
};

// Fills device memory with random numbers: a pattern of each kind is made once and then copied on
// the device, from another place of it each time.
class RandomNumbers {
 public:
  RandomNumbers(Device device, void* stream) : device_(device), stream_(stream) {}

  Device device() const { return device_; }
  void* stream() const { return stream_; }
  // float and kernels::bf16.
  template <typename T>
  void fill(T* to, std::int64_t count, Spread spread);

 private:
  Device device_;
  void* stream_;
  std::int64_t fills_ = 0;
  std::map<std::tuple<std::size_t, double, double>, OwnedMemory> patterns_;
};

// One set of operands. Every operand is counted in bytes() as its name says: input() read once,
// output() written once, update() both; other() not at all (add what it costs with count()).
class Operands {
 public:
  explicit Operands(RandomNumbers& numbers) : numbers_(numbers) {}
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  template <typename T>
  const T* input(std::int64_t elements, Spread spread = {}) {
    return add<T>(elements, spread, 1);
  }
  template <typename T>
  T* output(std::int64_t elements) {
    return add<T>(elements, {}, 1);
  }
  template <typename T>
  T* update(std::int64_t elements, Spread spread = {}) {
    return add<T>(elements, spread, 2);
  }
  template <typename T>
  T* other(std::int64_t elements, Spread spread = {}) {
    return add<T>(elements, spread, 0);
  }
  // A copy of plain values, read once.
  template <typename T>
  T* values(const std::vector<T>& from) {
    const auto size = static_cast<std::int64_t>(from.size() * sizeof(T));
    std::byte* to = allocate(size);
    upload(numbers_.device(), to, from.data(), size, numbers_.stream());
    count(static_cast<double>(size));
    return reinterpret_cast<T*>(to);
  }
  // Uninitialised to the run, and not counted.
  template <typename T>
  T* scratch(std::int64_t elements) {
    return reinterpret_cast<T*>(allocate(elements * static_cast<std::int64_t>(sizeof(T))));
  }
  void count(double bytes) { bytes_ += bytes; }

  double bytes() const { return bytes_; }
  std::int64_t footprint() const { return footprint_; }

 private:
  std::byte* allocate(std::int64_t bytes);
  template <typename T>
  T* add(std::int64_t elements, Spread spread, int times) {
    const std::int64_t size = elements * static_cast<std::int64_t>(sizeof(T));
    T* to = reinterpret_cast<T*>(allocate(size));
    numbers_.fill(to, elements, spread);
    count(static_cast<double>(times) * static_cast<double>(size));
    return to;
  }

  RandomNumbers& numbers_;
  std::vector<OwnedMemory> memory_;
  double bytes_ = 0;
  std::int64_t footprint_ = 0;
};

// Token ids as text has them: id k about 1 / k as often as the first; and how many differ.
struct TokenIds {
  std::vector<std::int32_t> ids;
  std::int64_t distinct = 0;
};
TokenIds token_ids(std::int64_t count, std::int64_t vocab);

}  // namespace tessera::cli
