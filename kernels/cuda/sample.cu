// Choosing tokens: a block a row. Greedy is one pass. A draw brings the row into shared memory
// where it fits, cuts it (sample_cut.cuh), and finds the token by a prefix sum over runs of ids.
#include <cmath>

#include "core/philox.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample_cut.cuh"
#include "kernels/sample.h"

namespace tessera::kernels::cuda {
namespace {

// Logits further below the largest than this many temperatures have weight 0.
constexpr double kDeepest = 28.5;

// Calls body(id, z) for this thread's share of a row, sixteen bytes at a time where kVectors; what
// it makes of z goes to `stage` (16-byte aligned), where there is one.
template <typename T, bool kVectors, typename Body>
__device__ void visit_row(const T* logits, int vocab, T* stage, const Body& body) {
  int done = 0;
  if constexpr (kVectors) {
    constexpr int kWide = kLanes<T>;
    const int whole = vocab / kWide;
#pragma unroll 4
    for (int v = static_cast<int>(threadIdx.x); v < whole; v += kSampleThreads) {
      float z[kWide];
      load(logits + v * kWide, z);
#pragma unroll
      for (int e = 0; e < kWide; ++e) body(v * kWide + e, z[e]);
      if (stage) store(stage + v * kWide, z);
    }
    done = whole * kWide;
  }
  for (int id = done + static_cast<int>(threadIdx.x); id < vocab; id += kSampleThreads) {
    float z = to_float(logits[id]);
    body(id, z);
    if (stage) stage[id] = from_float<T>(z);
  }
}

// The smallest id that has the largest logit.
template <typename T, bool kVectors>
__device__ int likeliest(const Sample<T>& a, const T* logits, Weight* scratch) {
  Weight best = 0;
  visit_row<T, kVectors>(logits, static_cast<int>(a.vocab), nullptr, [&](int id, float z) {
    if (a.allowed && a.allowed[id] == 0) return;
    const Weight k =
        static_cast<Weight>(key_of(z)) << 32 | (0xffffffffu - static_cast<unsigned>(id));
    if (k > best) best = k;
  });
  best = block_join(best, scratch, [](Weight x, Weight y) { return x > y ? x : y; });
  return static_cast<int>(0xffffffffu - static_cast<unsigned>(best));
}

// The row with its limits; staged: moved to `stage` first.
template <typename T, bool kVectors, bool kStaged>
__device__ SampleRow<T, kStaged> take_row(const Sample<T>& a, const T* logits, T* stage,
                                          Weight* scratch) {
  float most = -INFINITY, least = INFINITY;
  const int vocab = static_cast<int>(a.vocab);
  T* const to = kStaged ? stage : nullptr;
  visit_row<T, kVectors>(logits, vocab, to, [&](int id, float& z) {
    const bool may = !a.allowed || a.allowed[id] != 0;
    if (z != z) z = -INFINITY;
    if (may) {
      most = fmaxf(most, z);
      if (z > -INFINITY) least = fminf(least, z);
    }
    if (!may) z = NAN;
  });
  constexpr int kWide = kLanes<T>;
  const int whole = (vocab + kWide - 1) / kWide * kWide;
  if constexpr (kStaged)  // the last vector's rest
    for (int id = vocab + static_cast<int>(threadIdx.x); id < whole; id += kSampleThreads)
      stage[id] = from_float<T>(NAN);
  auto* const floats = reinterpret_cast<float*>(scratch);
  most = block_join(most, floats, [](float x, float y) { return fmaxf(x, y); });
  least = block_join(least, floats, [](float x, float y) { return fminf(x, y); });
  return {kStaged ? stage : logits, a.allowed, vocab, most, least};
}

template <typename T, bool kStaged>
__device__ int draw(const Sample<T>& a, const SampleRow<T, kStaged>& row, std::int64_t r,
                    float scale, SampleShared& s) {
  Cut cut;
  const float span = row.most - row.least;
  if (a.top_k > 0 && a.top_k < a.vocab)
    narrow(
        row, span, [](int, float) { return Weight{1}; },
        [&](Weight) { return static_cast<Weight>(a.top_k); }, s, cut);
  const auto weight = [&](int, float z) -> Weight { return sample_weight(z, row.most, scale); };
  if (a.top_p < 1)
    narrow(
        row, fminf(span, static_cast<float>(kDeepest * a.temperature)), weight,
        [&](Weight total) {
          const double share = ceil(a.top_p * static_cast<double>(total));
          return share > 1 ? static_cast<Weight>(share) : Weight{1};
        },
        s, cut);

  // Runs of neighbouring vectors, one a thread, an odd number so that threads read from different
  // banks; then the ids of the run that reaches the target.
  constexpr int kWide = kLanes<T>;
  const auto kept = [&](int id, float z) {
    return cut.keeps(z, id) ? weight(id, z) : Weight{0};  // never a NaN
  };
  const int count = row.vectors(), run = (count + kSampleThreads - 1) / kSampleThreads | 1;
  const int begin = min(static_cast<int>(threadIdx.x) * run, count), end = min(begin + run, count);
  Weight mine = 0;
  for (int v = begin; v < end; ++v) {
    float z[kWide];
    row.take(v, z);
#pragma unroll
    for (int e = 0; e < kWide; ++e) mine += kept(v * kWide + e, z[e]);
  }
  Weight total;
  const Weight through = block_scan(mine, s.scratch, total);
  const double u = counter_uniform(a.seed, static_cast<std::uint64_t>(a.prompts[r]),
                                   static_cast<std::uint64_t>(a.produced[r]));
  const auto wanted = static_cast<Weight>(u * static_cast<double>(total));
  const Weight target = wanted < total ? wanted : total - 1;
  if (through - mine <= target && target < through) {
    Weight reached = through - mine;
    int found = -1;
    for (int v = begin; found < 0 && v < end; ++v) {
      float z[kWide];
      row.take(v, z);
#pragma unroll
      for (int e = 0; e < kWide; ++e) {
        reached += kept(v * kWide + e, z[e]);
        if (found < 0 && reached > target) found = v * kWide + e;
      }
    }
    s.found = found;
  }
  __syncthreads();
  return s.found;
}

// The token of row r goes into the books.
template <typename T>
__device__ void book(const Sample<T>& a, std::int64_t r, int token, bool given) {
  a.tokens[r * a.token_stride] = token;
  if (a.positions) ++a.positions[r];
  if (given || a.ended[r]) return;
  const std::int32_t at = a.produced[r];
  a.outputs[r * a.output_stride + at] = token;
  a.produced[r] = at + 1;
  if (token == a.end_id || at + 1 >= a.limit) a.ended[r] = 1;
}

enum class Way { greedy, staged, in_place };

template <typename T, bool kVectors, Way kWay>
__global__ __launch_bounds__(kSampleThreads) void choose(const Sample<T> a, const float scale) {
  extern __shared__ uint4 stage[];
  __shared__ SampleShared shared;
  const std::int64_t r = blockIdx.x;
  const T* const logits = a.logits + r * a.stride;
  const std::int32_t given = a.forced ? a.forced[r * a.forced_stride] : -1;  // alike for the block
  int token = given;
  if (given < 0) {
    if constexpr (kWay == Way::greedy) {
      token = likeliest<T, kVectors>(a, logits, shared.scratch);
    } else {
      const auto row = take_row<T, kVectors, kWay == Way::staged>(
          a, logits, reinterpret_cast<T*>(stage), shared.scratch);
      token = draw(a, row, r, scale, shared);
    }
  }
  if (threadIdx.x == 0) book(a, r, token, given >= 0);
}

// Bytes of shared memory that a block of `kernel` may take beside its own.
template <typename Kernel>
std::int64_t room_for_row(Kernel kernel) {
  int device = 0, most = 0;
  cudaFuncAttributes attributes{};
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
          cudaSuccess ||
      cudaFuncGetAttributes(&attributes, kernel) != cudaSuccess)
    return 0;
  const int room = most - static_cast<int>(attributes.sharedSizeBytes);
  const auto set = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, room);
  return set == cudaSuccess ? room : 0;
}

template <typename T, bool kVectors>
void launch(const Queue& queue, const Sample<T>& a) {
  const auto rows = static_cast<unsigned>(a.rows);
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  const std::int64_t bytes = (a.vocab * static_cast<std::int64_t>(sizeof(T)) + 15) / 16 * 16;
  if (a.temperature <= 0) {
    choose<T, kVectors, Way::greedy><<<rows, kSampleThreads, 0, stream>>>(a, 0.0f);
    return;
  }
  static const std::int64_t room = room_for_row(choose<T, kVectors, Way::staged>);
  const float scale = sample_scale(a.temperature);
  if (bytes <= room)
    choose<T, kVectors, Way::staged>
        <<<rows, kSampleThreads, static_cast<std::size_t>(bytes), stream>>>(a, scale);
  else
    choose<T, kVectors, Way::in_place><<<rows, kSampleThreads, 0, stream>>>(a, scale);
}

}  // namespace

template <typename T>
void sample(const Queue& queue, const Sample<T>& a) {
  if (a.rows <= 0) return;
  TESSERA_CHECK(a.vocab >= 1 && a.vocab < (std::int64_t{1} << 31) && a.logits && a.produced);
  if (a.stride % kLanes<T> == 0 && vector_aligned(a.logits))
    launch<T, true>(queue, a);
  else
    launch<T, false>(queue, a);
  check_launch("sample");
}

template void sample(const Queue&, const Sample<float>&);
template void sample(const Queue&, const Sample<bf16>&);

}  // namespace tessera::kernels::cuda
