// Choosing tokens: a block a row, no sorting. Greedy is one pass. Otherwise the likeliest are cut
// off by radix selection over the bits of the logits (top_k by count, top_p by weight), ties by
// radix selection over ids, and the token is found by a prefix sum over runs of ids. Weights are
// whole numbers (kernels/sample.h), so atomic sums are exact whatever their order.
#include <cmath>

#include "core/philox.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/sample.h"

namespace tessera::kernels::cuda {
namespace {

using Weight = unsigned long long;
constexpr int kThreads = 512;

// Larger keys for larger values; NaN as -inf.
__device__ unsigned key_of(float z) {
  if (z != z) z = -INFINITY;
  const unsigned bits = __float_as_uint(z + 0.0f);  // -0 as 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ float value_of(unsigned key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ Weight weight_of(float z, float most, double temperature) {
  if (z == most) return static_cast<Weight>(kSampleUnit);
  const double w = exp((static_cast<double>(z) - static_cast<double>(most)) / temperature);
  return static_cast<Weight>(__double2ll_rn(w * kSampleUnit));
}

template <typename V, typename Join>
__device__ V block_join(V value, V* scratch, const Join& join) {
  for (int offset = 16; offset > 0; offset /= 2)
    value = join(value, __shfl_xor_sync(0xffffffffu, value, offset));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  V all = scratch[0];
  for (int w = 1; w < kThreads / 32; ++w) all = join(all, scratch[w]);
  __syncthreads();
  return all;
}

// What a row's ids are cut to: all larger keys, and of those equal to `key` the ids up to `last`.
struct Cut {
  unsigned key = 0;
  int last = 0x7fffffff;
  __device__ bool keeps(unsigned k, int id) const { return k > key || (k == key && id <= last); }
};

template <typename T>
struct Row {
  const T* logits;
  const std::uint8_t* allowed;
  int vocab;

  __device__ bool may(int id) const { return !allowed || allowed[id] != 0; }
  __device__ float at(int id) const { return to_float(logits[id]); }
  // Calls body(id, key) for this thread's share of the allowed ids.
  template <typename Body>
  __device__ void each(const Body& body) const {
    for (int id = static_cast<int>(threadIdx.x); id < vocab; id += kThreads)
      if (may(id)) body(id, key_of(at(id)));
  }
};

// The largest key of the row and the smallest id that has it: key in the upper half.
template <typename T, bool kVectors>
__device__ Weight largest(const Row<T>& row, Weight* scratch) {
  Weight best = 0;
  const auto take = [&](int id, float z) {
    if (!row.may(id)) return;
    const Weight k =
        static_cast<Weight>(key_of(z)) << 32 | (0xffffffffu - static_cast<unsigned>(id));
    if (k > best) best = k;
  };
  if constexpr (kVectors) {
    constexpr int kWide = kLanes<T>;
    const int whole = row.vocab / kWide;
#pragma unroll 4
    for (int v = static_cast<int>(threadIdx.x); v < whole; v += kThreads) {
      float z[kWide];
      load(row.logits + v * kWide, z);
#pragma unroll
      for (int e = 0; e < kWide; ++e) take(v * kWide + e, z[e]);
    }
    for (int id = whole * kWide + static_cast<int>(threadIdx.x); id < row.vocab; id += kThreads)
      take(id, row.at(id));
  } else {
    for (int id = static_cast<int>(threadIdx.x); id < row.vocab; id += kThreads)
      take(id, row.at(id));
  }
  return block_join(best, scratch, [](Weight a, Weight b) { return a > b ? a : b; });
}

// The digit at which the running total, from the largest digit down (or up), reaches `goal`;
// `before`: the total of those in front of it.
__device__ int find_digit(const Weight* bins, Weight goal, bool down, Weight& before) {
  before = 0;
  for (int n = 0; n < 255; ++n) {
    const int digit = down ? 255 - n : n;
    if (before + bins[digit] >= goal) return digit;
    before += bins[digit];
  }
  return down ? 0 : 255;
}

// Radix selection over the 32-bit numbers that `visit(body)` calls body(number, weight) with: the
// number at which the total weight, from the largest down (or the smallest up), reaches `goal`;
// `goal` becomes what remains of it for that number alone.
template <typename Visit>
__device__ unsigned select(const Visit& visit, bool down, Weight& goal, Weight* bins) {
  unsigned prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += kThreads) bins[i] = 0;
    __syncthreads();
    visit([&](unsigned number, Weight weight) {
      if (shift == 24 || number >> (shift + 8) == prefix)
        atomicAdd(bins + (number >> shift & 255u), weight);
    });
    __syncthreads();
    Weight before = 0;
    const int digit = find_digit(bins, goal, down, before);
    __syncthreads();
    prefix = prefix << 8 | static_cast<unsigned>(digit);
    goal -= before;
  }
  return prefix;
}

// Of the ids that `cut` keeps and whose key is cut.key, only the `count` smallest stay.
template <typename T>
__device__ void keep_equals(const Row<T>& row, Weight count, Cut& cut, Weight* bins) {
  const Cut old = cut;
  cut.last = static_cast<int>(select(
      [&](const auto& body) {
        row.each([&](int id, unsigned key) {
          if (key == old.key && old.keeps(key, id)) body(static_cast<unsigned>(id), 1);
        });
      },
      false, count, bins));
}

template <typename T>
__device__ int draw(const Sample<T>& a, const Row<T>& row, std::int64_t r, float most, Weight* bins,
                    Weight* scratch) {
  const auto sum = [&](const auto& of) {
    Weight total = 0;
    row.each([&](int id, unsigned key) { total += of(id, key); });
    return block_join(total, scratch, [](Weight x, Weight y) { return x + y; });
  };
  Cut cut;
  if (a.top_k > 0) {
    Weight goal = static_cast<Weight>(a.top_k);
    if (sum([](int, unsigned) { return Weight{1}; }) > goal) {
      cut.key =
          select([&](const auto& body) { row.each([&](int, unsigned key) { body(key, 1); }); },
                 true, goal, bins);
      keep_equals(row, goal, cut, bins);
    }
  }
  const auto weight = [&](int id, unsigned key) {
    return cut.keeps(key, id) ? weight_of(value_of(key), most, a.temperature) : Weight{0};
  };
  Weight total = sum(weight);
  if (a.top_p < 1) {
    const auto goal = static_cast<Weight>(ceil(a.top_p * static_cast<double>(total)));
    Weight rest = goal > 0 ? goal : 1;
    Cut narrower = cut;
    narrower.key = select(
        [&](const auto& body) {
          row.each([&](int id, unsigned key) {
            if (cut.keeps(key, id)) body(key, weight(id, key));
          });
        },
        true, rest, bins);
    if (narrower.key != cut.key) narrower.last = 0x7fffffff;
    const Weight one = weight_of(value_of(narrower.key), most, a.temperature);
    if (one > 0) keep_equals(row, (rest + one - 1) / one, narrower, bins);
    cut = narrower;
    total = sum(weight);
  }
  const double u = counter_uniform(a.seed, static_cast<std::uint64_t>(a.prompts[r]),
                                   static_cast<std::uint64_t>(a.produced[r]));
  const auto wanted = static_cast<Weight>(u * static_cast<double>(total));
  const Weight target = wanted < total ? wanted : total - 1;

  // Runs of neighbouring ids, one a thread; then the ids of the run that reaches the target.
  const int run = (row.vocab + kThreads - 1) / kThreads;
  const int begin = min(static_cast<int>(threadIdx.x) * run, row.vocab);
  const int end = min(begin + run, row.vocab);
  Weight mine = 0;
  for (int id = begin; id < end; ++id)
    if (row.may(id)) mine += weight(id, key_of(row.at(id)));
  Weight through = mine;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int offset = 1; offset < 32; offset *= 2) {
    const Weight before = __shfl_up_sync(0xffffffffu, through, offset);
    if (lane >= offset) through += before;
  }
  if (lane == 31) scratch[warp] = through;
  __syncthreads();
  for (int w = 0; w < warp; ++w) through += scratch[w];
  __shared__ int found;
  if (through - mine <= target && target < through) {
    Weight reached = through - mine;
    for (int id = begin; id < end; ++id) {
      if (row.may(id)) reached += weight(id, key_of(row.at(id)));
      if (reached > target) {
        found = id;
        break;
      }
    }
  }
  __syncthreads();
  return found;
}

template <typename T, bool kVectors>
__global__ __launch_bounds__(kThreads) void choose(const Sample<T> a) {
  __shared__ Weight bins[256], scratch[kThreads / 32];
  const std::int64_t r = blockIdx.x;
  const std::int32_t given = a.forced ? a.forced[r * a.forced_stride] : -1;  // alike for the block
  int token = given;
  if (given < 0) {
    const Row<T> row{a.logits + r * a.stride, a.allowed, static_cast<int>(a.vocab)};
    const Weight best = largest<T, kVectors>(row, scratch);
    token = a.temperature <= 0
                ? static_cast<int>(0xffffffffu - static_cast<unsigned>(best))
                : draw(a, row, r, value_of(static_cast<unsigned>(best >> 32)), bins, scratch);
  }
  if (threadIdx.x != 0) return;
  a.tokens[r * a.token_stride] = token;
  if (a.positions) ++a.positions[r];
  if (given >= 0 || a.ended[r]) return;
  const std::int32_t at = a.produced[r];
  a.outputs[r * a.output_stride + at] = token;
  a.produced[r] = at + 1;
  if (token == a.end_id || at + 1 >= a.limit) a.ended[r] = 1;
}

}  // namespace

template <typename T>
void sample(const Queue& queue, const Sample<T>& a) {
  if (a.rows <= 0) return;
  TESSERA_CHECK(a.vocab >= 1 && a.vocab < (std::int64_t{1} << 31) && a.logits && a.produced);
  const bool vectors = a.stride % kLanes<T> == 0 && vector_aligned(a.logits);
  const auto kernel = vectors ? choose<T, true> : choose<T, false>;
  kernel<<<static_cast<unsigned>(a.rows), kThreads, 0, static_cast<cudaStream_t>(queue.stream)>>>(
      a);
  check_launch("sample");
}

template void sample(const Queue&, const Sample<float>&);
template void sample(const Queue&, const Sample<bf16>&);

}  // namespace tessera::kernels::cuda
