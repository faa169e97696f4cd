// What a block knows of one row of logits, and the cuts that top-k and top-p make in it, without
// sorting: weights are added up in bins of equal width in the logit, and only the candidates of the
// bin in which the goal is reached are ranked. Sums are of whole numbers, so atomics are exact
// whatever their order.
#pragma once

#include <climits>
#include <cmath>

#include "kernels/cuda/vector.cuh"
#include "kernels/sample_weight.h"

namespace tessera::kernels::cuda {

using Weight = unsigned long long;
inline constexpr int kSampleThreads = 512, kSampleWarps = kSampleThreads / 32;
inline constexpr int kBinBits = 10, kBins = 1 << kBinBits;
inline constexpr int kCandidates = 1024;
// A weight is added in three parts of 14 bits, because 32 bits are what shared memory adds by
// itself; up to so many of them fit. Rows with more ids add 64 bits, which is slower.
inline constexpr int kPartBits = 14, kPartRows = 1 << (32 - kPartBits);

struct SampleShared {
  union {
    unsigned parts[3][kBins];
    Weight sums[kBins];
    Weight candidates[kCandidates];
  };
  Weight scratch[kSampleWarps];
  Weight goal, boundary;
  int bin, count, found;
};

// Larger keys for larger values; NaN as -inf.
__device__ inline unsigned key_of(float z) {
  if (z != z) z = -INFINITY;
  const unsigned bits = __float_as_uint(z + 0.0f);  // -0 as 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float value_of(unsigned key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

template <typename V, typename Join>
__device__ V block_join(V value, V* scratch, const Join& join) {
  for (int offset = 16; offset > 0; offset /= 2)
    value = join(value, __shfl_xor_sync(0xffffffffu, value, offset));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  V all = scratch[0];
  for (int w = 1; w < kSampleWarps; ++w) all = join(all, scratch[w]);
  __syncthreads();
  return all;
}

// The sum of `value` over this thread and those in front of it; `total`: over all.
__device__ inline Weight block_scan(Weight value, Weight* scratch, Weight& total) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int offset = 1; offset < 32; offset *= 2) {
    const Weight before = __shfl_up_sync(0xffffffffu, value, offset);
    if (lane >= offset) value += before;
  }
  if (lane == 31) scratch[warp] = value;
  __syncthreads();
  total = 0;
  Weight front = 0;
  for (int w = 0; w < kSampleWarps; ++w) {
    if (w == warp) front = total;
    total += scratch[w];
  }
  __syncthreads();
  return value + front;
}

// What a row's ids are cut to: all larger logits, and of those equal to `least` the ids up to
// `last`.
struct Cut {
  float least = -INFINITY;
  int last = INT_MAX;
  __device__ bool keeps(float z, int id) const { return z > least || (z == least && id <= last); }
};

// A row of logits. Staged, it lies in shared memory in whole vectors, with -inf for NaN and NaN for
// what may not be chosen.
template <typename T, bool kStaged>
struct SampleRow {
  static constexpr int kWide = kLanes<T>;
  const T* logits;
  const std::uint8_t* allowed;
  int vocab;
  float most, least;  // of the ids that may be chosen; least: of finite ones

  __device__ float at(int id) const { return to_float(logits[id]); }
  __device__ int vectors() const { return (vocab + kWide - 1) / kWide; }
  // The logits of ids from v * kWide on; NaN for what may not be chosen.
  __device__ void take(int v, float (&z)[kWide]) const {
    if constexpr (kStaged) {
      load(logits + v * kWide, z);
    } else {
#pragma unroll
      for (int e = 0; e < kWide; ++e) {
        const int id = v * kWide + e;
        const bool may = id < vocab && (!allowed || allowed[id] != 0);
        z[e] = may ? at(id) : NAN;
        if (may && z[e] != z[e]) z[e] = -INFINITY;
      }
    }
  }
  // Calls body(id, z) for this thread's share of the ids that may be chosen.
  template <typename Body>
  __device__ void each(const Body& body) const {
    const int count = vectors();
    for (int v = static_cast<int>(threadIdx.x); v < count; v += kSampleThreads) {
      float z[kWide];
      take(v, z);
#pragma unroll
      for (int e = 0; e < kWide; ++e)
        if (z[e] == z[e]) body(v * kWide + e, z[e]);
    }
  }
};

__device__ inline void clear_bins(SampleShared& s) {
  for (int i = static_cast<int>(threadIdx.x); i < 3 * kBins; i += kSampleThreads) s.parts[0][i] = 0;
  __syncthreads();
}

__device__ inline void add_to_bin(SampleShared& s, int bin, Weight weight, bool wide) {
  constexpr unsigned kMask = (1u << kPartBits) - 1;
  if (wide) {
    atomicAdd(s.sums + bin, weight);
    return;
  }
  const auto low = static_cast<unsigned>(weight) & kMask;
  const auto middle = static_cast<unsigned>(weight >> kPartBits) & kMask;
  const auto high = static_cast<unsigned>(weight >> (2 * kPartBits));
  if (low) atomicAdd(s.parts[0] + bin, low);
  if (middle) atomicAdd(s.parts[1] + bin, middle);
  if (high) atomicAdd(s.parts[2] + bin, high);
}

// The bin in which the running total from bin 0 on reaches goal_of(total of all), or the total
// where that is less; s.goal: what remains of the goal for that bin. All threads; begins with a
// barrier.
template <typename Goal>
__device__ int find_bin(SampleShared& s, bool wide, const Goal& goal_of) {
  static_assert(kBins == 2 * kSampleThreads);
  __syncthreads();
  const int first = 2 * static_cast<int>(threadIdx.x);
  const auto sum = [&](int bin) {
    if (wide) return s.sums[bin];
    return s.parts[0][bin] + (static_cast<Weight>(s.parts[1][bin]) << kPartBits) +
           (static_cast<Weight>(s.parts[2][bin]) << (2 * kPartBits));
  };
  const Weight one = sum(first), both = one + sum(first + 1);
  Weight total;
  const Weight before = block_scan(both, s.scratch, total) - both;
  const Weight asked = goal_of(total), goal = asked < total ? asked : total;
  if (before < goal && goal <= before + both) {
    const bool second = before + one < goal;
    s.bin = first + (second ? 1 : 0);
    s.goal = goal - before - (second ? one : 0);
  }
  __syncthreads();
  return s.bin;
}

// Of the numbers that visit(body) calls body(number, weight) with: the one at which the running
// total, from the smallest up, reaches s.goal; s.goal becomes what remains for that number.
template <typename Visit>
__device__ unsigned select(const Visit& visit, SampleShared& s, bool wide) {
  unsigned low = 0, high = 0xffffffffu;
  while (low < high) {
    const int bits = 32 - __clz(static_cast<int>(high - low));
    const int shift = bits > kBinBits ? bits - kBinBits : 0;
    const Weight goal = s.goal;
    clear_bins(s);
    visit([&](unsigned number, Weight weight) {
      if (number >= low && number <= high)
        add_to_bin(s, static_cast<int>((number - low) >> shift), weight, wide);
    });
    low += static_cast<unsigned>(find_bin(s, wide, [&](Weight) { return goal; })) << shift;
    high = min(high, low + ((1u << shift) - 1));
  }
  return low;
}

// Cuts `cut` down to the fewest likeliest ids (of equals the smaller ones first) whose weights,
// weight(id, z), reach goal_of(sum of the weights of all that it keeps). Bins divide the `span`
// below the largest logit.
template <typename T, bool kStaged, typename WeightOf, typename Goal>
__device__ void narrow(const SampleRow<T, kStaged>& row, float span, const WeightOf& weight,
                       const Goal& goal_of, SampleShared& s, Cut& cut) {
  const bool wide = row.vocab > kPartRows;
  const float bins_a_unit = span > 0 ? static_cast<float>(kBins - 1) / span : 0.0f;
  const auto bin_of = [&](float z) {
    if (z == row.most) return 0;
    // Rounded by adding 2^23, whose last bit is one; NaN comes into the last bin too.
    const float x = fminf((row.most - z) * bins_a_unit, static_cast<float>(kBins - 1));
    return static_cast<int>(__float_as_uint(x + 8388608.0f) & (kBins - 1));
  };
  const auto kept = [&](const auto& body) {
    row.each([&](int id, float z) {
      if (cut.keeps(z, id)) body(id, z);
    });
  };
  clear_bins(s);
  kept([&](int id, float z) { add_to_bin(s, bin_of(z), weight(id, z), wide); });
  const int bin = find_bin(s, wide, goal_of);

  // The candidates of that bin, likeliest first: ~key in the upper half, id in the lower.
  if (threadIdx.x == 0) s.count = 0;
  __syncthreads();
  kept([&](int id, float z) {
    if (bin_of(z) != bin) return;
    const int place = atomicAdd(&s.count, 1);
    if (place < kCandidates)
      s.candidates[place] = static_cast<Weight>(~key_of(z)) << 32 | static_cast<unsigned>(id);
  });
  __syncthreads();
  const int count = s.count;
  if (count <= kCandidates) {
    const auto weight_at = [&](Weight c) {
      const int id = static_cast<int>(c & 0xffffffffu);
      return weight(id, row.at(id));
    };
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kSampleThreads) {
      const Weight mine = s.candidates[i];
      Weight before = 0;
      for (int j = 0; j < count; ++j)
        if (s.candidates[j] < mine) before += weight_at(s.candidates[j]);
      if (before < s.goal && s.goal <= before + weight_at(mine)) s.boundary = mine;
    }
    __syncthreads();
    cut.least = value_of(~static_cast<unsigned>(s.boundary >> 32));
    cut.last = static_cast<int>(s.boundary & 0xffffffffu);
    __syncthreads();
    return;
  }

  // Very many of them: by the bits of their keys, then of the ids of equals.
  const float least = value_of(~select(
      [&](const auto& body) {
        kept([&](int id, float z) {
          if (bin_of(z) == bin) body(~key_of(z), weight(id, z));
        });
      },
      s, wide));
  const unsigned last = select(
      [&](const auto& body) {
        kept([&](int id, float z) {
          if (z == least) body(static_cast<unsigned>(id), weight(id, z));
        });
      },
      s, wide);
  cut.least = least;
  cut.last = static_cast<int>(last);
}

}  // namespace tessera::kernels::cuda
