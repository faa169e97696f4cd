// What the tiny-window kernels share. `lanes` neighbouring threads own one head of one window, each
// eight components of all its rows; everything else is registers and shuffles. All rows are asked
// for before the first is used, so that a processor has more than 100 KB under way.
#pragma once

#include <algorithm>

#include "kernels/cuda/attention_paths.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace tessera::kernels::cuda {

inline constexpr int kTinyLength = 8;  // most rows of a window here
inline constexpr int kTinyPart = 8;    // components a thread
inline constexpr int kTinyThreads = 128;

// Keeps the compiler from computing what follows from x far ahead and holding it in registers.
__device__ __forceinline__ int fresh(int x) {
  asm volatile("" : "+r"(x));
  return x;
}
template <int length>
__device__ __forceinline__ void keep_packed(uint4 (&rows)[length]) {
#pragma unroll
  for (int i = 0; i < length; ++i)
    asm volatile("" : "+r"(rows[i].x), "+r"(rows[i].y), "+r"(rows[i].z), "+r"(rows[i].w));
}

// This thread's place: its head, its components, its rotation. A pair is a head of a window,
// numbered window * heads + head.
template <int length, int lanes>
struct TinyPlace {
  static constexpr int kHead = lanes * kTinyPart;
  static constexpr unsigned kBlockPairs = kTinyThreads / lanes;
  unsigned pairs, first;  // all; the first of this block
  unsigned mine;          // this thread's, from `first`
  unsigned heads, head;   // head: of first + mine, and every multiple of `heads` later
  int row, out_row;       // elements between rows of qkv, of out
  int part;               // first component
  int partner;            // of the components that are rotated with mine, or -1
  int half;               // rotated components / 2
  bool low;               // mine are the first half of the rotated ones

  __device__ __forceinline__ TinyPlace(const WindowAttentionShape<bf16>& s) {
    pairs = static_cast<unsigned>(s.windows * s.heads);
    heads = static_cast<unsigned>(s.heads);
    first = blockIdx.x * kBlockPairs;
    mine = threadIdx.x / lanes;
    head = (first + mine) % heads;
    row = static_cast<int>(s.heads) * 3 * kHead;
    out_row = static_cast<int>(s.heads) * kHead;
    part = static_cast<int>(threadIdx.x % lanes) * kTinyPart;
    half = static_cast<int>(s.rotary / 2);
    low = part < half;
    partner = part >= 2 * half ? -1 : low ? part + half : part - half;
  }
  __device__ __forceinline__ bool inside() const { return first + mine < pairs; }
  // Threads past the last pair read the first window, and write nothing.
  __device__ __forceinline__ std::int64_t window() const {
    return inside() ? (first + mine) / heads : 0;
  }
  __device__ __forceinline__ std::int64_t qkv_offset() const {
    return window() * (length * static_cast<std::int64_t>(row)) + head * 3 * kHead + part;
  }
  __device__ __forceinline__ std::int64_t out_offset() const {
    return window() * (length * static_cast<std::int64_t>(out_row)) + head * kHead + part;
  }
};

// Not written during the launch: the compiler may move these loads past stores.
__device__ __forceinline__ uint4 load_constant(const bf16* p) {
  return __ldg(reinterpret_cast<const uint4*>(p));
}
// One store of sixteen bytes (plain assignments may be taken apart into four) without a branch.
__device__ __forceinline__ void store_part(bf16* p, const float (&x)[kTinyPart], bool inside) {
  const uint4 v = pack<bf16>(x);
  asm volatile(
      "{\n"
      ".reg .pred inside;\n"
      "setp.ne.u32 inside, %5, 0;\n"
      "@inside st.global.v4.b32 [%0], {%1, %2, %3, %4};\n"
      "}" ::"l"(p),
      "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(static_cast<unsigned>(inside))
      : "memory");
}

// Asked for where this stands: with a __syncwarp behind the last of them, the compiler does not put
// them off to their first use.
template <int length>
__device__ __forceinline__ void load_rows(uint4 (&rows)[length], const bf16* from, int stride) {
#pragma unroll
  for (int i = 0; i < length; ++i)
    asm volatile("ld.global.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(rows[i].x), "=r"(rows[i].y), "=r"(rows[i].z), "=r"(rows[i].w)
                 : "l"(from + i * stride)
                 : "memory");
}

// How this thread's components turn at one position: x cos + other sin. Only for those that do.
struct TinyTurn {
  float cos[kTinyPart], sin[kTinyPart];

  // direction -1 turns back.
  template <typename Place>
  __device__ __forceinline__ TinyTurn(const Place& p, const WindowAttentionShape<bf16>& s,
                                      int position, float direction) {
    const int at = position * p.half + (p.low ? p.part : p.partner);
    const float sign = p.low ? -direction : direction;
#pragma unroll
    for (int i = 0; i < kTinyPart; i += 4) {
      const float4 c = __ldg(reinterpret_cast<const float4*>(s.cos + at + i));
      const float4 t = __ldg(reinterpret_cast<const float4*>(s.sin + at + i));
      cos[i] = c.x, cos[i + 1] = c.y, cos[i + 2] = c.z, cos[i + 3] = c.w;
      sin[i] = sign * t.x, sin[i + 1] = sign * t.y;
      sin[i + 2] = sign * t.z, sin[i + 3] = sign * t.w;
    }
  }
  __device__ __forceinline__ void apply(float (&x)[kTinyPart],
                                        const float (&other)[kTinyPart]) const {
#pragma unroll
    for (int e = 0; e < kTinyPart; ++e) x[e] = fmaf(other[e], sin[e], x[e] * cos[e]);
  }
};

// Rotates the rows of q and k that lie at `from`. The partner's components come from memory once
// more, out of lines that are already under way.
template <int length, typename Place>
__device__ __forceinline__ void rotate_rows(uint4 (&q)[length], uint4 (&k)[length], const Place& p,
                                            const WindowAttentionShape<bf16>& s, const bf16* from) {
  from += p.partner - p.part;
  const int row_step = fresh(p.row);
#pragma unroll
  for (int i = 0; i < length; ++i) {
    if (fresh(p.partner) < 0) continue;  // a branch a row: fewer registers than one for all
    const TinyTurn turn(p, s, i, 1.0f);
    const auto rotate = [&](uint4& row, const bf16* others) {
      float x[kTinyPart], other[kTinyPart];
      unpack<bf16>(load_constant(others), other);
      unpack<bf16>(row, x);
      turn.apply(x, other);
      row = pack<bf16>(x);
    };
    rotate(q[i], from + i * row_step);
    rotate(k[i], from + i * row_step + Place::kHead);
  }
}

__device__ __forceinline__ float dot(const uint4& a, const uint4& b) {
  float x[8], y[8], sum = 0.0f;
  unpack<bf16>(a, x);
  unpack<bf16>(b, y);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = fmaf(x[i], y[i], sum);
  return sum;
}

// Of `each` sums for every lane a lane keeps those of its half of the group and hands over the
// others, then of its quarter, down to its own. (Steps as templates: no loop is left to unroll.)
template <int each, int offset, int count>
__device__ __forceinline__ void sum_own(float (&sums)[count]) {
  if constexpr (offset > 0) {
    const bool upper = (threadIdx.x & static_cast<unsigned>(offset)) != 0;
#pragma unroll
    for (int i = 0; i < each * offset; ++i) {
      const float a = sums[i], b = sums[i + each * offset];
      sums[i] = (upper ? b : a) + __shfl_xor_sync(0xffffffffu, upper ? a : b, offset);
    }
    sum_own<each, offset / 2>(sums);
  }
}
template <int offset, int count>
__device__ __forceinline__ void sum_all(float (&sums)[count]) {
  if constexpr (offset > 0) {
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], offset);
    sum_all<offset / 2>(sums);
  }
}
// Sums each x over the group's lanes; every lane gets all sums. Where many are wanted, lanes sum
// their own and hand them round: 29 shuffles instead of 45 for 15 values over 8 lanes.
template <int lanes, int count>
__device__ __forceinline__ void sum_over_lanes(float (&x)[count]) {
  constexpr int kSteps = lanes == 4 ? 2 : lanes == 8 ? 3 : 4;
  constexpr int kEach = (count + lanes - 1) / lanes;
  if constexpr (count * kSteps <= kEach * (lanes - 1) + count) {
    sum_all<lanes / 2>(x);
  } else {
    float sums[kEach * lanes] = {};
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] = x[i];
    sum_own<kEach, lanes / 2>(sums);
#pragma unroll
    for (int i = 0; i < count; ++i)
      x[i] = __shfl_sync(0xffffffffu, sums[i % kEach], i / kEach, lanes);
  }
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Where the entry of query i and key j <= i lies in a packed triangle.
__host__ __device__ constexpr int tiny_entry(int i, int j) {
  return i * (i + 1) / 2 + j;
}

// Which rows of a window are keys, a bit each.
template <int length>
__device__ __forceinline__ unsigned kept_keys(const std::uint8_t* mask, std::int64_t window) {
  unsigned kept = 0;
#pragma unroll
  for (int j = 0; j < length; ++j)
    kept |= static_cast<unsigned>(__ldg(mask + window * length + j) != 0) << j;
  return kept;
}

// p: softmax over the keys j <= i of scale q_i . k_j; lse: the rows' log-sum-exp. `kept` is looked
// at where `masked`; its first bit is set.
template <int length, int lanes, bool masked>
__device__ __forceinline__ void probabilities(const uint4 (&q)[length], const uint4 (&k)[length],
                                              float (&p)[length * (length + 1) / 2],
                                              float (&lse)[length], float scale, unsigned kept) {
  constexpr float kLog2E = 1.4426950408889634f;
#pragma unroll
  for (int i = 0; i < length; ++i)
#pragma unroll
    for (int j = 0; j <= i; ++j) p[tiny_entry(i, j)] = dot(q[i], k[j]);
  sum_over_lanes<lanes>(p);
  if constexpr (masked) {
#pragma unroll
    for (int i = 0; i < length; ++i)
#pragma unroll
      for (int j = 1; j <= i; ++j)
        if ((kept >> j & 1u) == 0) p[tiny_entry(i, j)] = -INFINITY;
  }
#pragma unroll
  for (int i = 0; i < length; ++i) {
    float* row = p + tiny_entry(i, 0);
    float most = row[0], total = 0.0f;
#pragma unroll
    for (int j = 1; j <= i; ++j) most = fmaxf(most, row[j]);
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      row[j] = exp2_fast((row[j] - most) * (scale * kLog2E));
      total += row[j];
    }
    const float inverse = __fdividef(1.0f, total);
#pragma unroll
    for (int j = 0; j <= i; ++j) row[j] *= inverse;
    lse[i] = fmaf(most, scale, __logf(total));
  }
}

// Calls run(length, lanes, masked) as constants; the shape is one that tiny_attention_takes.
template <typename Run>
void tiny_dispatch(const WindowAttentionShape<bf16>& s, Run each) {
  const auto run = [&](auto length, auto lanes) {
    if (s.key_mask) return each(length, lanes, std::true_type());
    each(length, lanes, std::false_type());
  };
  const auto by_length = [&](auto lanes) {
    switch (s.length) {
      case 1:
        return run(std::integral_constant<int, 1>(), lanes);
      case 2:
        return run(std::integral_constant<int, 2>(), lanes);
      case 3:
        return run(std::integral_constant<int, 3>(), lanes);
      case 4:
        return run(std::integral_constant<int, 4>(), lanes);
      case 5:
        return run(std::integral_constant<int, 5>(), lanes);
      case 6:
        return run(std::integral_constant<int, 6>(), lanes);
      case 7:
        return run(std::integral_constant<int, 7>(), lanes);
      default:
        return run(std::integral_constant<int, 8>(), lanes);
    }
  };
  if (s.head_size == 32) return by_length(std::integral_constant<int, 4>());
  if (s.head_size == 64) return by_length(std::integral_constant<int, 8>());
  by_length(std::integral_constant<int, 16>());
}

inline float tiny_scale(const WindowAttentionShape<bf16>& s) {
  return s.head_size == 64   ? 0.125f
         : s.head_size == 32 ? 0.17677669529663687f
                             : 0.08838834764831845f;
}
// Pairs that a block holds at a time, and blocks that hold all pairs at once.
inline std::int64_t tiny_block_pairs(const WindowAttentionShape<bf16>& s) {
  return kTinyThreads * kTinyPart / s.head_size;
}
inline std::int64_t tiny_blocks(const WindowAttentionShape<bf16>& s) {
  return (s.windows * s.heads + tiny_block_pairs(s) - 1) / tiny_block_pairs(s);
}

}  // namespace tessera::kernels::cuda
