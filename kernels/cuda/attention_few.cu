// General attention of up to four queries (decoding beside a cache), bound by reading the keys and
// values once. A row is read by a group of lanes, 16 bytes each; a group keeps a softmax of its own
// over every so many keys, all of its queries at once, with the rows of several keys in flight. 1
// to 8 warps serve a head, by the number of keys; their results are joined in the order of the
// warps.
#include "kernels/cuda/attention_kernels.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_share.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = kBlockThreads / 32;

// Blocks that share a multiprocessor at least, by the queries that a thread has registers for.
constexpr int blocks_together(int queries) {
  return queries == 1 ? 3 : queries == 2 ? 2 : 1;
}

// Warp `part` of `parts` of one head: its share of the keys, joined over the warp's groups.
template <typename T, int kWidth, int kQueries, bool kVectors>
__device__ void attend(const AttentionForward<T>& a, std::int64_t pair, int part, int parts,
                       float scale, Partial<RowShare<T, kWidth>::kCount> (&partials)[kQueries]) {
  using Share = RowShare<T, kWidth>;
  constexpr int kFlying = Share::kFlying, kChunks = Share::kChunks, kVector = Share::kVector;
  const AttentionShape& shape = a.shape;
  const int queries = static_cast<int>(shape.queries), keys = static_cast<int>(shape.keys);
  const int size = static_cast<int>(shape.head_size), offset = keys - queries;
  const int group = static_cast<int>(threadIdx.x) % 32 / Share::kLanes;
  const std::int64_t w = pair / shape.heads, h = pair % shape.heads;
  const T* k = a.k + w * shape.kv_window + h * shape.kv_head;
  const T* v = a.v + w * shape.kv_window + h * shape.kv_head;
  const std::uint8_t* mask = a.key_mask != nullptr ? a.key_mask + w * keys : nullptr;

  float q[kQueries][kChunks][kVector];
#pragma unroll
  for (int i = 0; i < kQueries; ++i)
#pragma unroll
    for (int u = 0; u < kChunks; ++u) {
      const T* row =
          a.q + w * shape.q_window + min(i, queries - 1) * shape.q_row + h * shape.q_head;
      unpack<T>(load_chunk<kVectors>(row, Share::column(u), size, i < queries), q[i][u]);
    }

#pragma unroll 1
  for (int first = part * Share::kStep; first < keys; first += parts * Share::kStep) {
    uint4 k_rows[kFlying][kChunks], v_rows[kFlying][kChunks];
    bool kept[kFlying];
#pragma unroll
    for (int n = 0; n < kFlying; ++n) {
      const int j = first + n * Share::kGroups + group;
      const int row = min(j, keys - 1);
      kept[n] = j < keys && (mask == nullptr || mask[row] != 0);
#pragma unroll
      for (int u = 0; u < kChunks; ++u) {
        const int c = Share::column(u);
        k_rows[n][u] = load_chunk<kVectors>(k + row * shape.kv_row, c, size, kept[n]);
        v_rows[n][u] = load_chunk<kVectors>(v + row * shape.kv_row, c, size, kept[n]);
      }
    }
    float scores[kQueries][kFlying] = {};
#pragma unroll
    for (int n = 0; n < kFlying; ++n)
#pragma unroll
      for (int u = 0; u < kChunks; ++u) {
        float x[kVector];
        unpack<T>(k_rows[n][u], x);
#pragma unroll
        for (int i = 0; i < kQueries; ++i)
#pragma unroll
          for (int e = 0; e < kVector; ++e) scores[i][n] = fmaf(q[i][u][e], x[e], scores[i][n]);
      }
#pragma unroll
    for (int lane = Share::kLanes / 2; lane > 0; lane /= 2)
#pragma unroll
      for (int i = 0; i < kQueries; ++i)
#pragma unroll
        for (int n = 0; n < kFlying; ++n)
          scores[i][n] += __shfl_xor_sync(kWholeWarp, scores[i][n], lane);
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      Partial<Share::kCount>& partial = partials[i];
      float top = partial.most;
#pragma unroll
      for (int n = 0; n < kFlying; ++n) {
        const bool seen = kept[n] && first + n * Share::kGroups + group <= offset + i;
        scores[i][n] = seen ? scale * scores[i][n] : -INFINITY;
        top = fmaxf(top, scores[i][n]);
      }
      const float shift = partial.shift(top), shrink = expf(partial.most - shift);
      partial.most = top;
      partial.sum *= shrink;
#pragma unroll
      for (int c = 0; c < Share::kCount; ++c) partial.out[c] *= shrink;
#pragma unroll
      for (int n = 0; n < kFlying; ++n) {
        scores[i][n] = expf(scores[i][n] - shift);
        partial.sum += scores[i][n];
      }
    }
#pragma unroll
    for (int n = 0; n < kFlying; ++n)
#pragma unroll
      for (int u = 0; u < kChunks; ++u) {
        float x[kVector];
        unpack<T>(v_rows[n][u], x);
#pragma unroll
        for (int i = 0; i < kQueries; ++i)
#pragma unroll
          for (int e = 0; e < kVector; ++e) {
            float& out = partials[i].out[u * kVector + e];
            out = fmaf(scores[i][n], x[e], out);
          }
      }
  }
#pragma unroll
  for (int i = 0; i < kQueries; ++i)
#pragma unroll
    for (int lane = Share::kLanes; lane < 32; lane *= 2) partials[i].join(lane);
}

// `parts` warps a head: 1, 2, 4 or 8, so that a block serves 8 / parts heads.
template <typename T, int kWidth, int kQueries, bool kVectors>
__global__ __launch_bounds__(kBlockThreads,
                             blocks_together(kQueries)) void forward(const AttentionForward<T> a,
                                                                     int parts, float scale) {
  using Share = RowShare<T, kWidth>;
  __shared__ float outs[kWarps][kQueries][kWidth];
  __shared__ float mosts[kWarps][kQueries], sums[kWarps][kQueries];
  const AttentionShape& shape = a.shape;
  const int queries = static_cast<int>(shape.queries), size = static_cast<int>(shape.head_size);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * (kWarps / parts) + warp / parts;
  const bool works = pair < shape.windows * shape.heads;  // alike for the whole warp
  if (works) {
    Partial<Share::kCount> partials[kQueries];
    attend<T, kWidth, kQueries, kVectors>(a, pair, warp % parts, parts, scale, partials);
    if (lane < Share::kLanes)
#pragma unroll
      for (int i = 0; i < kQueries; ++i) {
#pragma unroll
        for (int c = 0; c < Share::kCount; ++c)
          outs[warp][i][Share::column(c / Share::kVector) + c % Share::kVector] =
              partials[i].out[c];
        if (lane == 0) mosts[warp][i] = partials[i].most, sums[warp][i] = partials[i].sum;
      }
  }
  __syncthreads();
  if (!works) return;
  const int first = warp / parts * parts, step = parts * 32;
  for (int at = warp % parts * 32 + lane; at < queries * size; at += step) {
    const int i = at / size, c = at % size;
    float most = -INFINITY, sum = 0, out = 0;
    for (int p = first; p < first + parts; ++p) most = fmaxf(most, mosts[p][i]);
    for (int p = first; p < first + parts; ++p) {
      const float share = expf(mosts[p][i] - Partial<1>::shift(most));
      sum += share * sums[p][i];
      out += share * outs[p][i][c];
    }
    const std::int64_t w = pair / shape.heads, h = pair % shape.heads;
    a.out[((w * queries + i) * shape.heads + h) * size + c] =
        from_float<T>(sum == 0 ? 0.0f : out / sum);
    if (c == 0 && a.lse != nullptr)
      a.lse[pair * queries + i] = sum == 0 ? -INFINITY : most + logf(sum);
  }
}

template <int kWidth, int kQueries, typename T>
void launch(const AttentionForward<T>& a, cudaStream_t stream) {
  const AttentionShape& s = a.shape;
  int parts = 1;  // two steps or more for each warp
  while (parts < kWarps && s.keys > 2 * parts * RowShare<T, kWidth>::kStep) parts *= 2;
  const std::int64_t heads = kWarps / parts;  // a block
  const std::int64_t blocks = (s.windows * s.heads + heads - 1) / heads;
  const bool vectors = strides_divide(s, 16 / static_cast<std::int64_t>(sizeof(T))) &&
                       are_aligned(16, a.q, a.k, a.v);
  const auto kernel =
      vectors ? forward<T, kWidth, kQueries, true> : forward<T, kWidth, kQueries, false>;
  kernel<<<static_cast<unsigned>(blocks), kBlockThreads, 0, stream>>>(a, parts, softmax_scale(s));
  check_launch("attention_forward");
}

template <int kWidth, typename T>
void launch(const AttentionForward<T>& a, cudaStream_t stream) {
  if (a.shape.queries == 1)
    launch<kWidth, 1>(a, stream);
  else if (a.shape.queries == 2)
    launch<kWidth, 2>(a, stream);
  else
    launch<kWidth, kFewQueries>(a, stream);
}

}  // namespace

template <typename T>
void attention_forward_few(const AttentionForward<T>& a, cudaStream_t stream) {
  if (a.shape.head_size <= 64)
    launch<64>(a, stream);
  else if (a.shape.head_size <= 128)
    launch<128>(a, stream);
  else
    launch<256>(a, stream);
}

template void attention_forward_few(const AttentionForward<float>&, cudaStream_t);
template void attention_forward_few(const AttentionForward<bf16>&, cudaStream_t);

}  // namespace tessera::kernels::cuda
