#include "cli/kernel_bench/measure.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "core/stopwatch.h"
#include "kernels/copy_rows.h"
#include "kernels/gemm.h"

namespace tessera::cli {
namespace {

// Sets of operands: until together they exceed any cache several times (an H100's L2 has 50 MB).
constexpr std::int64_t kCold = 200'000'000;
constexpr std::size_t kMostSets = 24;
// Batches: their number, their length, and the most runs of one.
constexpr int kBatches = 7;
constexpr double kBatchSeconds = 4e-3;
constexpr std::size_t kMostRuns = 256;
constexpr int kSingles = 15;

// Host memory by all threads, as the operations go through it.
void copy_on_host(std::byte* to, const std::byte* from, std::int64_t bytes) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < bytes; i += kPiece)
    std::memcpy(to + i, from + i, static_cast<std::size_t>(std::min(kPiece, bytes - i)));
}

double product(std::initializer_list<std::int64_t> numbers) {
  double result = 1;
  for (const std::int64_t n : numbers) result *= static_cast<double>(n);
  return result;
}

}  // namespace

KernelBench::KernelBench(Device device, std::string filter)
    : filter_(std::move(filter)),
      stream_(device, "tessera bench"),
      numbers_(device, stream_.get()) {
  queue_.device = device;
  queue_.stream = stream_.get();
  if (cuda()) {
    libraries_ = kernels::open_libraries();
    kernels::set_may_measure(*libraries_, true);
    queue_.libraries = libraries_.get();
    need_workspace(kernels::kWorkspaceBytes);
    find_ceilings<kernels::bf16>();
  } else {
    find_ceilings<float>();
  }
}

void KernelBench::need_workspace(std::int64_t bytes) {
  if (!cuda() || bytes <= queue_.workspace_bytes) return;
  stream_.synchronize();
  workspace_.reset();
  workspace_ = OwnedMemory(allocate_memory(queue_.device, bytes), FreeMemory{queue_.device});
  queue_.workspace = workspace_.get();
  queue_.workspace_bytes = bytes;
}

std::vector<double> KernelBench::time_batches(const std::vector<KernelRun>& runs) {
  Stopwatch watch(queue_.device, queue_.stream);
  const auto pass = [&] {
    for (const KernelRun& each : runs) each.run();
  };
  const std::size_t begin = watch.mark();
  pass();
  const double once = watch.milliseconds(begin, watch.mark()) / 1e3;
  const auto wanted = static_cast<std::size_t>(kBatchSeconds / std::max(once, 1e-7));
  const std::size_t passes =
      std::clamp<std::size_t>(wanted, 1, std::max<std::size_t>(1, kMostRuns / runs.size()));
  const auto batch = [&] {
    for (std::size_t i = 0; i < passes; ++i) pass();
  };
  std::unique_ptr<DeviceGraph> graph;
  if (cuda()) graph = std::make_unique<DeviceGraph>(stream_, batch);
  const auto run = [&] {
    if (graph)
      graph->launch(stream_);
    else
      batch();
  };
  run();
  std::vector<std::size_t> marks = {watch.mark()};
  for (int i = 0; i < kBatches; ++i) {
    run();
    marks.push_back(watch.mark());
  }
  std::vector<double> seconds;
  for (std::size_t i = 1; i < marks.size(); ++i)
    seconds.push_back(watch.milliseconds(marks[i - 1], marks[i]) / 1e3 /
                      static_cast<double>(passes * runs.size()));
  return seconds;
}

std::vector<double> KernelBench::time_single(const std::vector<KernelRun>& runs) {
  // Nothing waits in between: on CUDA each `before` hides the host's launch of the run behind it.
  Stopwatch watch(queue_.device, queue_.stream);
  std::vector<std::pair<std::size_t, std::size_t>> marks;
  for (int i = 0; i < kSingles; ++i) {
    const KernelRun& each = runs[static_cast<std::size_t>(i) % runs.size()];
    if (each.before) each.before();
    const std::size_t begin = watch.mark();
    each.run();
    marks.emplace_back(begin, watch.mark());
  }
  std::vector<double> seconds;
  for (const auto& [begin, end] : marks) seconds.push_back(watch.milliseconds(begin, end) / 1e3);
  return seconds;
}

KernelBench::Seconds KernelBench::measure(const std::function<KernelRun(Operands&)>& prepare) {
  std::vector<std::unique_ptr<Operands>> sets;
  std::vector<KernelRun> runs;
  std::int64_t footprint = 0;
  bool destroys = false;
  do {
    sets.push_back(std::make_unique<Operands>(numbers_));
    runs.push_back(prepare(*sets.back()));
    footprint += sets.back()->footprint();
    destroys = destroys || runs.back().before;
  } while (footprint < kCold && sets.size() < kMostSets);
  for (const KernelRun& each : runs) each.run();  // warm-up; algorithms are chosen here
  stream_.synchronize();
  std::vector<double> seconds = destroys ? time_single(runs) : time_batches(runs);
  stream_.synchronize();
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), sets.front()->bytes()};
}

template <typename T>
void KernelBench::find_ceilings() {
  // What copies most: the driver's copy or the project's own.
  const std::int64_t bytes = std::int64_t{1} << (cuda() ? 30 : 27), count = bytes / 4;
  const auto copying = [&](const std::function<void(float* to, const float* from)>& copy) {
    const Seconds seconds = measure([&](Operands& operands) -> KernelRun {
      const float* from = operands.input<float>(count);
      float* to = operands.output<float>(count);
      return {[=] { copy(to, from); }, {}};
    });
    copy_bandwidth_ = std::max(copy_bandwidth_, seconds.bytes / seconds.least);
  };
  if (cuda()) {
    copying([&](float* to, const float* from) {
      copy_memory(queue_.device, to, from, bytes, queue_.stream);
    });
    copying([&](float* to, const float* from) {
      kernels::copy_rows<float>(queue_, {1, 1, count, from, 0, to, 0});
    });
  } else {
    copying([&](float* to, const float* from) {
      copy_on_host(reinterpret_cast<std::byte*>(to), reinterpret_cast<const std::byte*>(from),
                   bytes);
    });
  }

  const std::int64_t n = cuda() ? 8192 : 1024;
  const Seconds matrix = measure([&](Operands& operands) -> KernelRun {
    const T *a = operands.input<T>(n * n), *b = operands.input<T>(n * n);
    T* c = operands.output<T>(n * n);
    return {[=, this] {
              kernels::gemm<T>(queue_, {false, true, n, n, n, a, n, b, n, c, n, 1, 0});
            },
            {}};
  });
  gemm_rate_ = 2 * product({n, n, n}) / matrix.least;
}

void KernelBench::time(const KernelCase& wanted) {
  if ((wanted.operation + " " + wanted.use).find(filter_) == std::string::npos) return;
  KernelTime time;
  time.operation = wanted.operation;
  time.use = wanted.use;
  time.shape = wanted.shape;
  time.flops = wanted.flops;
  try {
    const Seconds seconds = measure(wanted.prepare);
    time.microseconds = 1e6 * seconds.median;
    time.bytes = seconds.bytes;
    const double moving = time.bytes / copy_bandwidth_, computing = time.flops / gemm_rate_;
    time.compute_bound = computing > moving;
    time.fraction = std::max(moving, computing) / seconds.median;
  } catch (const Error& error) {
    if (!wanted.may_refuse || error.category() != Category::device) throw;
    time.refused = error.what();
  }
  times_.push_back(time);
}

}  // namespace tessera::cli
