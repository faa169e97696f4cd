// What the tiny-window kernels share. `lanes` neighbouring threads own one head of one window, each
// eight components of all its rows; everything else is registers and shuffles.
#pragma once

#include "kernels/cuda/attention_paths.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace tessera::kernels::cuda {

inline constexpr int kTinyLength = 8;  // most rows of a window here
inline constexpr int kTinyPart = 8;    // components a thread

// This thread's place: its head of its window, its components, its rotation.
template <int length, int lanes>
struct TinyPlace {
  static constexpr int kHead = lanes * kTinyPart;
  bool inside;
  std::int64_t qkv, out;      // element of row 0 (q; k and v follow by kHead), of out's row 0
  std::int64_t row, out_row;  // elements between rows
  std::int64_t pair;          // window * heads + head
  int part;                   // first component
  int partner;                // of the components that are rotated with mine, or -1
  bool low;                   // mine are the first half of the rotated ones
  int half;

  __device__ __forceinline__ TinyPlace(const WindowAttentionShape<bf16>& s) {
    const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    pair = thread / lanes;
    inside = pair < s.windows * s.heads;
    if (!inside) pair = 0;
    const std::int64_t window = pair / s.heads, head = pair % s.heads;
    part = static_cast<int>(thread % lanes) * kTinyPart;
    row = s.heads * 3 * kHead;
    out_row = s.heads * kHead;
    qkv = window * length * row + head * 3 * kHead + part;
    out = window * length * out_row + head * kHead + part;
    half = static_cast<int>(s.rotary / 2);
    low = part < half;
    partner = part >= 2 * half ? -1 : low ? part + half : part - half;
  }
};

// Rotates eight components: mine with those of the partner, at cos/sin of this position. sign -1
// turns back.
__device__ __forceinline__ void turn(float (&mine)[8], const float (&other)[8], const float* cos,
                                     const float* sin, bool low, float sign) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float s = low ? -sign * sin[i] : sign * sin[i];
    mine[i] = mine[i] * cos[i] + other[i] * s;
  }
}

// A row of q or k, rotated, as packed bf16.
template <typename Place>
__device__ __forceinline__ uint4 load_rotated(const Place& p, const WindowAttentionShape<bf16>& s,
                                              const bf16* row, int position) {
  const uint4 raw = load_raw(row);
  if (p.partner < 0) return raw;
  float mine[8], other[8];
  unpack<bf16>(raw, mine);
  load(row + (p.partner - p.part), other);
  const int angle = position * p.half + (p.low ? p.part : p.partner);
  turn(mine, other, s.cos + angle, s.sin + angle, p.low, 1.0f);
  return pack<bf16>(mine);
}

__device__ __forceinline__ float dot(const uint4& a, const uint4& b) {
  float x[8], y[8], sum = 0.0f;
  unpack<bf16>(a, x);
  unpack<bf16>(b, y);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = fmaf(x[i], y[i], sum);
  return sum;
}

template <int lanes>
__device__ __forceinline__ float sum_over_lanes(float x) {
#pragma unroll
  for (int offset = lanes / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

// p[i (i + 1) / 2 + j]: softmax over j <= i of scale q_i . k_j; returns nothing else but the rows'
// log-sum-exp in lse.
template <int length, int lanes>
__device__ __forceinline__ void probabilities(const uint4 (&q)[length], const uint4 (&k)[length],
                                              float (&p)[length * (length + 1) / 2],
                                              float (&lse)[length], float scale) {
#pragma unroll
  for (int i = 0; i < length; ++i)
#pragma unroll
    for (int j = 0; j <= i; ++j)
      p[i * (i + 1) / 2 + j] = sum_over_lanes<lanes>(dot(q[i], k[j])) * scale;
#pragma unroll
  for (int i = 0; i < length; ++i) {
    float* row = p + i * (i + 1) / 2;
    float most = row[0], total = 0.0f;
#pragma unroll
    for (int j = 1; j <= i; ++j) most = fmaxf(most, row[j]);
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      row[j] = __expf(row[j] - most);
      total += row[j];
    }
    const float inverse = 1.0f / total;
#pragma unroll
    for (int j = 0; j <= i; ++j) row[j] *= inverse;
    lse[i] = most + __logf(total);
  }
}

// Calls run(length, lanes) as constants; the shape is one that tiny_attention_takes.
template <typename Run>
void tiny_dispatch(const WindowAttentionShape<bf16>& s, Run run) {
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
inline unsigned tiny_blocks(const WindowAttentionShape<bf16>& s, int threads) {
  return static_cast<unsigned>((s.windows * s.heads * s.head_size / kTinyPart + threads - 1) /
                               threads);
}

}  // namespace tessera::kernels::cuda
