// General attention, forward: a block holds a tile of queries and passes over the keys they see,
// tile by tile, with the softmax kept as a running maximum and sum (Milakov and Gimelshein 2018;
// Dao et al. 2022). Products run on the scalar units from shared memory (attention_tiles.cuh), 8 x
// 4 results a thread, so that they are bound by arithmetic and not by shared memory.
#include "kernels/cuda/attention_kernels.cuh"
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::kernels::cuda {
namespace {

// Below the 99 KiB of shared memory that a block gets on every device since sm_80.
template <int kWidth>
struct ForwardTile {
  static constexpr int kQueries = kWidth <= 128 ? 64 : 32;
  static constexpr int kKeys = kWidth <= 64 ? 64 : kWidth <= 128 ? 32 : 16;
  static constexpr int kFloats =
      (kQueries + 2 * kKeys) * kRowStride<kWidth> + kQueries * kRowStride<kKeys>;
};

// The thread's part of its rows' softmax: maximum and sum so far, and unscaled output.
template <int kR, int kC>
struct Running {
  float most[kR], sum[kR], out[kR][kC];

  __device__ Running() {
#pragma unroll
    for (int r = 0; r < kR; ++r) {
      most[r] = -INFINITY;
      sum[r] = 0;
#pragma unroll
      for (int c = 0; c < kC; ++c) out[r][c] = 0;
    }
  }
  // Takes in the scores of a tile, which become probabilities times exp(lse - most). The sum is the
  // thread's own columns' alone until the end.
  template <int kS>
  __device__ void add(float (&scores)[kR][kS]) {
#pragma unroll
    for (int r = 0; r < kR; ++r) {
      float top = scores[r][0];
#pragma unroll
      for (int s = 1; s < kS; ++s) top = fmaxf(top, scores[r][s]);
      top = fmaxf(most[r], half_warp_max(top));
      const float shift = top == -INFINITY ? 0.0f : top;
      const float shrink = expf(most[r] - shift);
      most[r] = top;
      sum[r] *= shrink;
#pragma unroll
      for (int s = 0; s < kS; ++s) {
        scores[r][s] = expf(scores[r][s] - shift);
        sum[r] += scores[r][s];
      }
#pragma unroll
      for (int c = 0; c < kC; ++c) out[r][c] *= shrink;
    }
  }
};

template <typename T, int kWidth>
__global__ __launch_bounds__(kTileThreads) void forward(const AttentionForward<T> a, int tiles,
                                                        float scale, bool vectors) {
  using Tile = ForwardTile<kWidth>;
  constexpr int kR = Tile::kQueries / kThreadRows, kS = Tile::kKeys / kThreadColumns;
  extern __shared__ float4 shared[];
  float* q_tile = reinterpret_cast<float*>(shared);
  float* k_tile = q_tile + Tile::kQueries * kRowStride<kWidth>;
  float* v_tile = k_tile + Tile::kKeys * kRowStride<kWidth>;
  float* p_tile = v_tile + Tile::kKeys * kRowStride<kWidth>;

  // Tiles of one head are neighbours, to share its keys in the L2 cache; the longest comes first.
  const AttentionShape& shape = a.shape;
  const int queries = static_cast<int>(shape.queries), size = static_cast<int>(shape.head_size);
  const int offset = static_cast<int>(shape.keys) - queries;
  const int first = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * Tile::kQueries;
  const std::int64_t pair = blockIdx.x / tiles, w = pair / shape.heads, h = pair % shape.heads;
  const T* q = a.q + w * shape.q_window + first * shape.q_row + h * shape.q_head;
  const std::int64_t kv = w * shape.kv_window + h * shape.kv_head;
  const std::uint8_t* mask = a.key_mask != nullptr ? a.key_mask + w * shape.keys : nullptr;
  const int end = offset + min(first + Tile::kQueries, queries);  // of the keys that are seen

  fill_tile<Tile::kQueries, kWidth>(q_tile, q, shape.q_row, queries - first, size, nullptr,
                                    vectors);
  Running<kR, kWidth / kThreadColumns> running;
  for (int key = 0; key < end; key += Tile::kKeys) {
    const std::uint8_t* keep = mask != nullptr ? mask + key : nullptr;
    const std::int64_t row = kv + key * shape.kv_row;
    __syncthreads();
    fill_tile<Tile::kKeys, kWidth>(k_tile, a.k + row, shape.kv_row, end - key, size, keep, vectors);
    fill_tile<Tile::kKeys, kWidth>(v_tile, a.v + row, shape.kv_row, end - key, size, keep, vectors);
    bool kept[kS];
#pragma unroll
    for (int s = 0; s < kS; ++s) {
      const int j = thread_column() + s * kThreadColumns;
      kept[s] = key + j < end && (keep == nullptr || keep[j] != 0);
    }
    __syncthreads();
    float scores[kR][kS];
    rows_times_rows<kWidth>(q_tile, k_tile, size, scores);
#pragma unroll
    for (int r = 0; r < kR; ++r)
#pragma unroll
      for (int s = 0; s < kS; ++s) {
        const int i = first + thread_row() + r * kThreadRows;
        const int j = key + thread_column() + s * kThreadColumns;
        scores[r][s] = kept[s] && j <= offset + i ? scale * scores[r][s] : -INFINITY;
      }
    running.add(scores);
    keep_rows(p_tile, scores);
    __syncwarp();
    add_rows_times_tile<kWidth, Tile::kKeys>(p_tile, v_tile, running.out);
  }

#pragma unroll
  for (int r = 0; r < kR; ++r) {
    const int i = first + thread_row() + r * kThreadRows;
    const float sum = half_warp_sum(running.sum[r]);
    if (i < queries) {
      T* out = a.out + ((w * queries + i) * shape.heads + h) * size;
      write_row(out, size, running.out[r], sum == 0 ? 0.0f : 1.0f / sum, vectors);
      if (a.lse != nullptr && thread_column() == 0)
        a.lse[(w * shape.heads + h) * queries + i] =
            sum == 0 ? -INFINITY : running.most[r] + logf(sum);
    }
  }
}

template <int kWidth, typename T>
void launch(const AttentionForward<T>& a, cudaStream_t stream) {
  using Tile = ForwardTile<kWidth>;
  const AttentionShape& s = a.shape;
  constexpr int kBytes = Tile::kFloats * static_cast<int>(sizeof(float));
  cudaFuncSetAttribute(forward<T, kWidth>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  const std::int64_t tiles = (s.queries + Tile::kQueries - 1) / Tile::kQueries;
  const bool vectors = strides_divide(s, 4) && are_aligned(4 * sizeof(T), a.q, a.k, a.v, a.out);
  forward<T, kWidth>
      <<<static_cast<unsigned>(tiles * s.windows * s.heads), kTileThreads, kBytes, stream>>>(
          a, static_cast<int>(tiles), softmax_scale(s), vectors);
  check_launch("attention_forward");
}

}  // namespace

template <typename T>
void attention_forward_tiles(const AttentionForward<T>& a, cudaStream_t stream) {
  if (a.shape.head_size <= 64)
    launch<64>(a, stream);
  else if (a.shape.head_size <= 128)
    launch<128>(a, stream);
  else
    launch<256>(a, stream);
}

template void attention_forward_tiles(const AttentionForward<float>&, cudaStream_t);
template void attention_forward_tiles(const AttentionForward<bf16>&, cudaStream_t);

}  // namespace tessera::kernels::cuda
