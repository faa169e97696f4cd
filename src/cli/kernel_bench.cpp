#include "cli/kernel_bench.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/random.h"
#include "core/stopwatch.h"
#include "kernels/gemm.h"

namespace tessera::cli {
namespace {

constexpr std::int64_t kPattern = 1 << 20;  // elements before the random numbers repeat
constexpr std::int64_t kWorkspace = std::int64_t{1} << 30;  // attention asks for more than others

float to_type(double value, float) {
  return static_cast<float>(value);
}
kernels::bf16 to_type(double value, kernels::bf16) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace

KernelBench::KernelBench(Device device, std::string filter)
    : filter_(std::move(filter)), stream_(device, "tessera bench") {
  queue_.device = device;
  queue_.stream = stream_.get();
  if (cuda()) {
    libraries_ = kernels::open_libraries();
    kernels::set_may_measure(*libraries_, true);
    queue_.libraries = libraries_.get();
    workspace_ = OwnedMemory(allocate_memory(device, kWorkspace), FreeMemory{device});
    queue_.workspace = workspace_.get();
    queue_.workspace_bytes = kWorkspace;
  }
  find_ceilings();
}

std::byte* KernelBench::allocate(std::int64_t bytes) {
  memory_.emplace_back(allocate_memory(queue_.device, bytes), FreeMemory{queue_.device});
  return memory_.back().get();
}

void KernelBench::fill(std::byte* to, std::int64_t bytes, const std::vector<std::byte>& pattern) {
  const auto whole = static_cast<std::int64_t>(pattern.size());
  upload(queue_.device, to, pattern.data(), std::min(bytes, whole), queue_.stream);
  for (std::int64_t done = whole; done < bytes; done *= 2)
    copy_memory(queue_.device, to + done, to, std::min(done, bytes - done), queue_.stream);
  stream_.synchronize();
}

template <typename T>
T* KernelBench::random(std::int64_t count, double deviation, double mean) {
  const CounterRandom numbers(11, static_cast<std::uint64_t>(memory_.size()));
  const std::int64_t length = std::min(count, kPattern);
  std::vector<std::byte> pattern(static_cast<std::size_t>(length) * sizeof(T));
  for (std::int64_t i = 0; i < length; ++i) {
    const T value = to_type(mean + deviation * numbers.normal(static_cast<std::uint64_t>(i)), T{});
    std::memcpy(pattern.data() + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
  }
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
  std::byte* memory = allocate(bytes);
  fill(memory, bytes, pattern);
  return reinterpret_cast<T*>(memory);
}

template float* KernelBench::random<float>(std::int64_t, double, double);
template kernels::bf16* KernelBench::random<kernels::bf16>(std::int64_t, double, double);

std::int32_t* KernelBench::random_ids(std::int64_t count, std::int64_t below) {
  const CounterRandom numbers(12, 1);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(numbers.bits(static_cast<std::uint64_t>(i)) %
                                            static_cast<std::uint64_t>(below)));
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(std::int32_t));
  std::byte* memory = allocate(bytes);
  upload(queue_.device, memory, ids.data(), bytes, queue_.stream);
  return reinterpret_cast<std::int32_t*>(memory);
}

double KernelBench::measure(const std::function<void()>& run) {
  constexpr int kLeast = 7, kMost = 41;
  constexpr double kEnough = 60;  // milliseconds
  run();
  run();
  stream_.synchronize();
  Stopwatch watch(queue_.device, queue_.stream);
  std::vector<double> times;
  double total = 0;
  while (static_cast<int>(times.size()) < kLeast ||
         (static_cast<int>(times.size()) < kMost && total < kEnough)) {
    const std::size_t begin = watch.mark();
    run();
    times.push_back(watch.milliseconds(begin, watch.mark()));
    total += times.back();
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] / 1e3;
}

void KernelBench::find_ceilings() {
  const std::int64_t copied = cuda() ? std::int64_t{1} << 30 : std::int64_t{1} << 26;
  auto* from = reinterpret_cast<std::byte*>(random<float>(copied / 4));
  auto* to = reinterpret_cast<std::byte*>(random<float>(copied / 4));
  copy_bandwidth_ = 2.0 * static_cast<double>(copied) /
                    measure([&] { copy_memory(queue_.device, to, from, copied, queue_.stream); });
  forget();
  const std::int64_t n = cuda() ? 8192 : 1024;
  const double work =
      2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
  const auto product = [&](auto type) {
    using T = decltype(type);
    const T *a = random<T>(n * n), *b = random<T>(n * n);
    T* c = random<T>(n * n);
    gemm_rate_ = work / measure([&] {
                   kernels::gemm<T>(queue_, {false, true, n, n, n, a, n, b, n, c, n, 1, 0});
                 });
  };
  if (cuda())
    product(kernels::bf16{});
  else
    product(float{});
  forget();
}

void KernelBench::bytes(const std::string& operation, const std::string& shape, double bytes,
                        const std::function<void()>& run) {
  if (!wants(operation)) return;
  const double seconds = measure(run);
  times_.push_back({operation, shape, 1e6 * seconds, bytes, 0, bytes / seconds / copy_bandwidth_});
}

void KernelBench::flops(const std::string& operation, const std::string& shape, double flops,
                        const std::function<void()>& run) {
  if (!wants(operation)) return;
  const double seconds = measure(run);
  times_.push_back({operation, shape, 1e6 * seconds, 0, flops, flops / seconds / gemm_rate_});
}

}  // namespace tessera::cli
