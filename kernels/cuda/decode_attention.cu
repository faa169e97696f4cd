// Attention of one row a sequence over its cache, bound by reading the keys and values once. A row
// of a head is read by a group of lanes, 16 bytes each; a group keeps a softmax of its own over
// every so many keys with several rows in flight. Long caches: 1 to 8 warps serve a (sequence,
// head), by the cache's capacity, and where that leaves the machine empty (few sequences) the
// context is also split over blocks, whose partial results a second kernel joins in order. Tiny
// caches (a block's tokens): a group serves a (sequence, head) by itself. The new key and value go
// from registers into the first part's softmax and to the cache.
#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_share.cuh"
#include "kernels/decode_attention.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = kBlockThreads / 32;
constexpr std::int64_t kTinyCache = 16;
// Blocks that fill the machine: a few on each of an H100's 132 processors.
constexpr std::int64_t kEnoughBlocks = 396, kMostSplits = 64;

// How a launch divides the work: `parts` warps a (sequence, head), `splits` blocks in a row.
struct Division {
  int parts = 1, splits = 1;
};

// The lane's elements of row x, of which the first `rotary` are rotated by the position's angles.
template <typename T, int kWidth, bool kVectors>
__device__ void load_rotated(const T* x, int size, int half, const float* cos, const float* sin,
                             float (&to)[RowShare<T, kWidth>::kCount]) {
  using Share = RowShare<T, kWidth>;
#pragma unroll
  for (int u = 0; u < Share::kChunks; ++u) {
    const int column = Share::column(u);
    float values[Share::kVector];
    unpack<T>(load_chunk<kVectors>(x, column, size, true), values);
    if (column < 2 * half) {
#pragma unroll
      for (int e = 0; e < Share::kVector; ++e) {
        const int c = column + e;
        if (c < half)
          values[e] = values[e] * cos[c] - to_float(x[c + half]) * sin[c];
        else if (c < 2 * half)
          values[e] = values[e] * cos[c - half] + to_float(x[c - half]) * sin[c - half];
      }
    }
#pragma unroll
    for (int e = 0; e < Share::kVector; ++e) to[u * Share::kVector + e] = values[e];
  }
}

// Rounds the lane's elements to T, in place, and stores them where `live`.
template <typename T, int kWidth, bool kVectors>
__device__ void store_row(float (&x)[RowShare<T, kWidth>::kCount], int size, bool live, T* row) {
  using Share = RowShare<T, kWidth>;
#pragma unroll
  for (int u = 0; u < Share::kChunks; ++u) {
    const int column = Share::column(u);
    float values[Share::kVector];
#pragma unroll
    for (int e = 0; e < Share::kVector; ++e) {
      const T rounded = from_float<T>(x[u * Share::kVector + e]);
      values[e] = x[u * Share::kVector + e] = to_float(rounded);
    }
    if (!live || column >= size) continue;
    if constexpr (kVectors) {
      store(row + column, values);
    } else {
#pragma unroll
      for (int e = 0; e < Share::kVector; ++e)
        if (column + e < size) row[column + e] = from_float<T>(values[e]);
    }
  }
}

// q . k over the group's lanes.
template <int kLanesOfRow, int kCount>
__device__ float dot(const float (&q)[kCount], const float (&k)[kCount]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) sum = fmaf(q[i], k[i], sum);
#pragma unroll
  for (int lane = kLanesOfRow / 2; lane > 0; lane /= 2)
    sum += __shfl_xor_sync(kWholeWarp, sum, lane);
  return sum;
}

// Keys first, first + stride, ... < keys of one group into `partial`, kFlying of them at a time;
// all lanes of the warp make `rounds` rounds.
template <typename T, int kWidth, bool kVectors>
__device__ void attend(const T* keys, const T* values, std::int64_t row, int size, int first,
                       int stride, int count, int rounds, float scale,
                       const float (&q)[RowShare<T, kWidth>::kCount],
                       Partial<RowShare<T, kWidth>::kCount>& partial) {
  using Share = RowShare<T, kWidth>;
  constexpr int kFlying = Share::kFlying, kChunks = Share::kChunks, kVector = Share::kVector;
#pragma unroll 1
  for (int round = 0; round < rounds; ++round, first += kFlying * stride) {
    uint4 k_rows[kFlying][kChunks], v_rows[kFlying][kChunks];
    bool live[kFlying];
#pragma unroll
    for (int n = 0; n < kFlying; ++n) {
      const int j = first + n * stride;
      live[n] = j < count;
      const std::int64_t at = static_cast<std::int64_t>(live[n] ? j : 0) * row;
#pragma unroll
      for (int u = 0; u < kChunks; ++u) {
        k_rows[n][u] = load_chunk<kVectors>(keys + at, Share::column(u), size, live[n]);
        v_rows[n][u] = load_chunk<kVectors>(values + at, Share::column(u), size, live[n]);
      }
    }
    float scores[kFlying] = {};
#pragma unroll
    for (int n = 0; n < kFlying; ++n)
#pragma unroll
      for (int u = 0; u < kChunks; ++u) {
        float x[kVector];
        unpack<T>(k_rows[n][u], x);
#pragma unroll
        for (int e = 0; e < kVector; ++e) scores[n] = fmaf(q[u * kVector + e], x[e], scores[n]);
      }
#pragma unroll
    for (int lane = Share::kLanes / 2; lane > 0; lane /= 2)
#pragma unroll
      for (int n = 0; n < kFlying; ++n) scores[n] += __shfl_xor_sync(kWholeWarp, scores[n], lane);
    float top = partial.most;
#pragma unroll
    for (int n = 0; n < kFlying; ++n) {
      scores[n] = live[n] ? scale * scores[n] : -INFINITY;
      top = fmaxf(top, scores[n]);
    }
    const float shift = partial.shift(top), shrink = expf(partial.most - shift);
    partial.most = top;
    partial.sum *= shrink;
#pragma unroll
    for (int c = 0; c < Share::kCount; ++c) partial.out[c] *= shrink;
#pragma unroll
    for (int n = 0; n < kFlying; ++n) {
      scores[n] = expf(scores[n] - shift);
      partial.sum += scores[n];
#pragma unroll
      for (int u = 0; u < kChunks; ++u) {
        float x[kVector];
        unpack<T>(v_rows[n][u], x);
#pragma unroll
        for (int e = 0; e < kVector; ++e)
          partial.out[u * kVector + e] = fmaf(scores[n], x[e], partial.out[u * kVector + e]);
      }
    }
  }
}

// kSolo: a group of lanes a (sequence, head). Else `parts` warps and gridDim.y blocks.
template <typename T, int kWidth, bool kVectors, bool kSolo>
__global__ __launch_bounds__(kBlockThreads, 3) void decode(const DecodeAttention<T> a, int parts,
                                                           float scale,
                                                           float* __restrict__ partials) {
  using Share = RowShare<T, kWidth>;
  constexpr int kCount = Share::kCount;
  __shared__ float outs[kSolo ? 1 : kWarps][kSolo ? 1 : kWidth];
  __shared__ float mosts[kWarps], sums[kWarps];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / Share::kLanes, size = static_cast<int>(a.head_size);
  const int half = static_cast<int>(a.rotary) / 2;
  const std::int64_t pairs = a.sequences * a.heads;
  const std::int64_t wanted =
      kSolo ? (static_cast<std::int64_t>(blockIdx.x) * kWarps + warp) * Share::kGroups + group
            : static_cast<std::int64_t>(blockIdx.x) * (kWarps / parts) + warp / parts;
  const bool works = wanted < pairs;
  const std::int64_t pair = works ? wanted : 0;
  const std::int64_t b = pair / a.heads, h = pair - b * a.heads;
  const int position = a.positions ? a.positions[b] : static_cast<int>(a.position);
  const float *cos = a.cos + static_cast<std::int64_t>(position) * half,
              *sin = a.sin + static_cast<std::int64_t>(position) * half;
  const T* const x = a.qkv + b * a.qkv_row + 3 * h * size;
  T* const keys = a.keys + b * a.cache_sequence + h * size;
  T* const values = a.values + b * a.cache_sequence + h * size;

  float q[kCount];
  load_rotated<T, kWidth, kVectors>(x, size, half, cos, sin, q);
  Partial<kCount> partial;
  const int part = kSolo ? 0 : static_cast<int>(blockIdx.y) * parts + warp % parts;
  const int all_parts = kSolo ? 1 : static_cast<int>(gridDim.y) * parts;
  if (part == 0) {  // alike for the whole warp
    const bool mine = works && (kSolo || group == 0);
    const std::int64_t row = static_cast<std::int64_t>(position) * a.cache_row;
    float k[kCount], v[kCount];
    load_rotated<T, kWidth, kVectors>(x + size, size, half, cos, sin, k);
    load_rotated<T, kWidth, kVectors>(x + 2 * size, size, 0, cos, sin, v);
    store_row<T, kWidth, kVectors>(k, size, mine, keys + row);
    store_row<T, kWidth, kVectors>(v, size, mine, values + row);
    const float score = scale * dot<Share::kLanes>(q, k);
    if (kSolo || group == 0) {
      partial.most = score;
      partial.sum = 1;
#pragma unroll
      for (int c = 0; c < kCount; ++c) partial.out[c] = v[c];
    }
  }
  if constexpr (kSolo) {
    const int longest = static_cast<int>(__reduce_max_sync(kWholeWarp, works ? position : 0));
    attend<T, kWidth, kVectors>(keys, values, a.cache_row, size, 0, 1, works ? position : 0,
                                (longest + Share::kFlying - 1) / Share::kFlying, scale, q, partial);
    if (!works) return;
    T* const out = a.out + pair * size;
#pragma unroll
    for (int c = 0; c < kCount; ++c) partial.out[c] /= partial.sum;
    store_row<T, kWidth, kVectors>(partial.out, size, true, out);
    return;
  } else {
    const int step = all_parts * Share::kStep, begin = part * Share::kStep;
    const int rounds = position > begin ? (position - begin + step - 1) / step : 0;
    // A round's keys lie side by side: group by group, kFlying rows apart from one another.
    for (int round = 0; round < rounds; ++round)
      attend<T, kWidth, kVectors>(keys, values, a.cache_row, size, begin + round * step + group,
                                  Share::kGroups, position, 1, scale, q, partial);
#pragma unroll
    for (int other = Share::kLanes; other < 32; other *= 2) partial.join(other);
    if (lane < Share::kLanes) {
#pragma unroll
      for (int c = 0; c < kCount; ++c)
        outs[warp][Share::column(c / Share::kVector) + c % Share::kVector] = partial.out[c];
      if (lane == 0) mosts[warp] = partial.most, sums[warp] = partial.sum;
    }
    __syncthreads();
    if (!works) return;
    const int first = warp / parts * parts;
    for (int c = warp % parts * 32 + lane; c < size; c += parts * 32) {
      float most = -INFINITY, sum = 0, out = 0;
      for (int p = first; p < first + parts; ++p) most = fmaxf(most, mosts[p]);
      for (int p = first; p < first + parts; ++p) {
        const float share = expf(mosts[p] - Partial<1>::shift(most));
        sum += share * sums[p];
        out += share * outs[p][c];
      }
      if (gridDim.y == 1) {
        a.out[pair * size + c] = from_float<T>(out / sum);
      } else {
        float* const to = partials + (pair * gridDim.y + blockIdx.y) * (2 + size);
        if (c == 0) to[0] = most, to[1] = sum;
        to[2 + c] = out;
      }
    }
  }
}

// A warp a (sequence, head): the blocks' partial results in order.
template <typename T>
__global__ void join_splits(const float* __restrict__ partials, std::int64_t pairs, int splits,
                            int size, T* out) {
  const std::int64_t pair =
      static_cast<std::int64_t>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (pair >= pairs) return;
  const float* const from = partials + pair * splits * (2 + size);
  float most = -INFINITY;
  for (int s = 0; s < splits; ++s) most = fmaxf(most, from[s * (2 + size)]);
  for (int c = static_cast<int>(threadIdx.x) % 32; c < size; c += 32) {
    float sum = 0, total = 0;
    for (int s = 0; s < splits; ++s) {
      const float* const one = from + s * (2 + size);
      const float share = expf(one[0] - most);
      sum += share * one[1];
      total += share * one[2 + c];
    }
    out[pair * size + c] = from_float<T>(total / sum);
  }
}

template <typename T, int kWidth>
Division divide(const DecodeAttention<T>& a) {
  constexpr int kStep = RowShare<T, kWidth>::kStep;
  Division d;  // two rounds or more for each warp
  while (d.parts < kWarps && a.longest > 2 * d.parts * kStep) d.parts *= 2;
  const std::int64_t blocks = (a.sequences * a.heads * d.parts + kWarps - 1) / kWarps;
  const std::int64_t useful = a.longest / (2 * d.parts * kStep);
  const std::int64_t splits = std::min({kEnoughBlocks / blocks, useful, kMostSplits});
  d.splits = static_cast<int>(std::max<std::int64_t>(1, splits));
  return d;
}

template <int kWidth, typename T>
void launch(const Queue& queue, const DecodeAttention<T>& a) {
  using Share = RowShare<T, kWidth>;
  constexpr std::int64_t kWide = Share::kVector;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.head_size)));
  const bool vectors = a.head_size % kWide == 0 && a.qkv_row % kWide == 0 &&
                       a.cache_sequence % kWide == 0 && a.cache_row % kWide == 0 &&
                       vector_aligned(a.qkv, a.keys, a.values, a.out);
  const std::int64_t pairs = a.sequences * a.heads;
  if (a.longest <= kTinyCache) {
    const std::int64_t each = kWarps * Share::kGroups;
    const auto kernel = vectors ? decode<T, kWidth, true, true> : decode<T, kWidth, false, true>;
    kernel<<<static_cast<unsigned>((pairs + each - 1) / each), kBlockThreads, 0, stream>>>(
        a, 1, scale, nullptr);
    return check_launch("decode_attention");
  }
  const Division division = divide<T, kWidth>(a);
  const std::int64_t each = kWarps / division.parts;
  const dim3 grid(static_cast<unsigned>((pairs + each - 1) / each),
                  static_cast<unsigned>(division.splits));
  auto* const partials = reinterpret_cast<float*>(queue.workspace);
  if (division.splits > 1) {
    const std::int64_t bytes =
        pairs * division.splits * (2 + a.head_size) * static_cast<std::int64_t>(sizeof(float));
    TESSERA_CHECK(bytes <= queue.workspace_bytes);
  }
  const auto kernel = vectors ? decode<T, kWidth, true, false> : decode<T, kWidth, false, false>;
  kernel<<<grid, kBlockThreads, 0, stream>>>(a, division.parts, scale, partials);
  check_launch("decode_attention");
  if (division.splits == 1) return;
  join_splits<T>
      <<<static_cast<unsigned>((pairs + kWarps - 1) / kWarps), kBlockThreads, 0, stream>>>(
          partials, pairs, division.splits, static_cast<int>(a.head_size), a.out);
  check_launch("decode_attention");
}

}  // namespace

template <typename T>
void decode_attention(const Queue& queue, const DecodeAttention<T>& a) {
  if (a.sequences <= 0 || a.heads <= 0) return;
  TESSERA_CHECK(a.head_size >= 1 && a.head_size <= 256 && a.rotary <= a.head_size);
  if (a.head_size <= 64)
    launch<64>(queue, a);
  else if (a.head_size <= 128)
    launch<128>(queue, a);
  else
    launch<256>(queue, a);
}

template void decode_attention(const Queue&, const DecodeAttention<float>&);
template void decode_attention(const Queue&, const DecodeAttention<bf16>&);

}  // namespace tessera::kernels::cuda
