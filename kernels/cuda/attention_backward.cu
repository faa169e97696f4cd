// General attention, backward: D_i first; then a block for each tile of keys, which passes over the
// queries that see it for dk and dv, and a block for each tile of queries, which passes over the
// keys it sees for dq. Scores are computed twice, and no sum is shared between blocks: the result
// depends on the arguments alone. Both are made of the same two products (attention_tiles.cuh).
#include "kernels/cuda/attention_kernels.cuh"
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::kernels::cuda {
namespace {

// Rows of a tile of queries or of keys: the most whose tiles let two blocks or more share a
// multiprocessor, within the 99 KiB that a block gets on every device since sm_80.
template <int kWidth>
struct BackwardTile {
  static constexpr int kRows = 4096 / kWidth;
  static constexpr int kTile = kRows * kRowStride<kWidth>;  // floats
  static constexpr int kR = kRows / kThreadRows, kS = kRows / kThreadColumns;
  static constexpr int kFloats = 4 * kTile + kRows * kRowStride<kRows>;
};

// D_i = dout_i . out_i: a row for each half-warp at a time.
template <typename T>
__global__ __launch_bounds__(kBlockThreads) void row_sums(std::int64_t rows, const T* dout,
                                                          const T* out, int queries, int heads,
                                                          int size, bool vectors, float* delta) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kBlockThreads / kThreadColumns;
  std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x) / 32 * 2;
  for (; row < rows; row += step) {  // alike for the whole warp
    const std::int64_t own = row + threadIdx.x / kThreadColumns % 2;
    float sum = 0;
    if (own < rows)
      for (int c = thread_column() * 4; c < size; c += kThreadColumns * 4) {
        const T *x = dout + own * size, *y = out + own * size;
        const float4 a = vectors ? load4(x + c) : load_row4<false>(x, c, size, true);
        const float4 b = vectors ? load4(y + c) : load_row4<false>(y, c, size, true);
        sum += a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
      }
    sum = half_warp_sum(sum);
    if (own < rows && thread_column() == 0) {
      const std::int64_t h = own % heads, position = own / heads;
      delta[(position / queries * heads + h) * queries + position % queries] = sum;
    }
  }
}

// dk and dv. Scores lie transposed: rows are keys.
template <typename T, int kWidth>
__global__ __launch_bounds__(kTileThreads, 2) void key_gradients(const AttentionBackward<T> a,
                                                                 const float* delta, int tiles,
                                                                 float scale, bool vectors) {
  using Tile = BackwardTile<kWidth>;
  constexpr int kR = Tile::kR, kS = Tile::kS;
  extern __shared__ float4 shared[];
  float* k_tile = reinterpret_cast<float*>(shared);
  float* v_tile = k_tile + Tile::kTile;
  float* q_tile = v_tile + Tile::kTile;
  float* dout_tile = q_tile + Tile::kTile;
  float* p_tile = dout_tile + Tile::kTile;

  const AttentionShape& shape = a.shape;
  const int queries = static_cast<int>(shape.queries), keys = static_cast<int>(shape.keys);
  const int offset = keys - queries, size = static_cast<int>(shape.head_size);
  const int key = static_cast<int>(blockIdx.x) % tiles * Tile::kRows;
  const std::int64_t pair = blockIdx.x / tiles, w = pair / shape.heads, h = pair % shape.heads;
  const std::int64_t kv = w * shape.kv_window + key * shape.kv_row + h * shape.kv_head;
  const std::int64_t out_row = shape.heads * size;
  const T* q = a.q + w * shape.q_window + h * shape.q_head;
  const T* dout = a.dout + w * queries * out_row + h * size;
  const float* row_lse = a.lse + pair * queries;
  const float* row_delta = delta + pair * queries;
  const std::uint8_t* keep = a.key_mask != nullptr ? a.key_mask + w * keys + key : nullptr;

  fill_tile<Tile::kRows, kWidth>(k_tile, a.k + kv, shape.kv_row, keys - key, size, keep, vectors);
  fill_tile<Tile::kRows, kWidth>(v_tile, a.v + kv, shape.kv_row, keys - key, size, keep, vectors);
  bool kept[kR];
#pragma unroll
  for (int r = 0; r < kR; ++r) {
    const int j = thread_row() + r * kThreadRows;
    kept[r] = key + j < keys && (keep == nullptr || keep[j] != 0);
  }
  float dk[kR][kWidth / kThreadColumns] = {}, dv[kR][kWidth / kThreadColumns] = {};
  const int seen_from = max(0, key - offset) / Tile::kRows * Tile::kRows;
  for (int first = seen_from; first < queries; first += Tile::kRows) {
    __syncthreads();
    fill_tile<Tile::kRows, kWidth>(q_tile, q + first * shape.q_row, shape.q_row, queries - first,
                                   size, nullptr, vectors);
    fill_tile<Tile::kRows, kWidth>(dout_tile, dout + first * out_row, out_row, queries - first,
                                   size, nullptr, vectors);
    float lse[kS], sums[kS];
#pragma unroll
    for (int s = 0; s < kS; ++s) {
      const int i = first + thread_column() + s * kThreadColumns;
      lse[s] = i < queries ? row_lse[i] : 0.0f;
      sums[s] = i < queries ? row_delta[i] : 0.0f;
    }
    __syncthreads();
    float p[kR][kS], ds[kR][kS];
    rows_times_rows<kWidth>(k_tile, q_tile, size, p);
    rows_times_rows<kWidth>(v_tile, dout_tile, size, ds);
#pragma unroll
    for (int r = 0; r < kR; ++r)
#pragma unroll
      for (int s = 0; s < kS; ++s) {
        const int i = first + thread_column() + s * kThreadColumns;
        const int j = key + thread_row() + r * kThreadRows;
        const bool allowed = kept[r] && i < queries && j <= offset + i;
        p[r][s] = allowed ? expf(scale * p[r][s] - lse[s]) : 0.0f;
        ds[r][s] = allowed ? scale * p[r][s] * (ds[r][s] - sums[s]) : 0.0f;
      }
    keep_rows(p_tile, p);
    __syncwarp();
    add_rows_times_tile<kWidth, Tile::kRows>(p_tile, dout_tile, dv);
    __syncwarp();
    keep_rows(p_tile, ds);
    __syncwarp();
    add_rows_times_tile<kWidth, Tile::kRows>(p_tile, q_tile, dk);
  }
#pragma unroll
  for (int r = 0; r < kR; ++r) {
    const int j = thread_row() + r * kThreadRows;
    if (key + j < keys) {
      write_row(a.dk + kv + j * shape.kv_row, size, dk[r], 1.0f, vectors);
      write_row(a.dv + kv + j * shape.kv_row, size, dv[r], 1.0f, vectors);
    }
  }
}

template <typename T, int kWidth>
__global__ __launch_bounds__(kTileThreads, 2) void query_gradients(const AttentionBackward<T> a,
                                                                   const float* delta, int tiles,
                                                                   float scale, bool vectors) {
  using Tile = BackwardTile<kWidth>;
  constexpr int kR = Tile::kR, kS = Tile::kS;
  extern __shared__ float4 shared[];
  float* q_tile = reinterpret_cast<float*>(shared);
  float* dout_tile = q_tile + Tile::kTile;
  float* k_tile = dout_tile + Tile::kTile;
  float* v_tile = k_tile + Tile::kTile;
  float* ds_tile = v_tile + Tile::kTile;

  const AttentionShape& shape = a.shape;
  const int queries = static_cast<int>(shape.queries), keys = static_cast<int>(shape.keys);
  const int offset = keys - queries, size = static_cast<int>(shape.head_size);
  const int first = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * Tile::kRows;
  const std::int64_t pair = blockIdx.x / tiles, w = pair / shape.heads, h = pair % shape.heads;
  const std::int64_t at = w * shape.q_window + first * shape.q_row + h * shape.q_head;
  const std::int64_t kv = w * shape.kv_window + h * shape.kv_head;
  const std::int64_t out_row = shape.heads * size;
  const T* dout = a.dout + (w * queries + first) * out_row + h * size;
  const std::uint8_t* mask = a.key_mask != nullptr ? a.key_mask + w * keys : nullptr;
  const int end = offset + min(first + Tile::kRows, queries);  // of the keys that are seen

  fill_tile<Tile::kRows, kWidth>(q_tile, a.q + at, shape.q_row, queries - first, size, nullptr,
                                 vectors);
  fill_tile<Tile::kRows, kWidth>(dout_tile, dout, out_row, queries - first, size, nullptr, vectors);
  float lse[kR], sums[kR];
#pragma unroll
  for (int r = 0; r < kR; ++r) {
    const int i = first + thread_row() + r * kThreadRows;
    lse[r] = i < queries ? a.lse[pair * queries + i] : 0.0f;
    sums[r] = i < queries ? delta[pair * queries + i] : 0.0f;
  }
  float dq[kR][kWidth / kThreadColumns] = {};
  for (int key = 0; key < end; key += Tile::kRows) {
    const std::uint8_t* keep = mask != nullptr ? mask + key : nullptr;
    const std::int64_t row = kv + key * shape.kv_row;
    __syncthreads();
    fill_tile<Tile::kRows, kWidth>(k_tile, a.k + row, shape.kv_row, end - key, size, keep, vectors);
    fill_tile<Tile::kRows, kWidth>(v_tile, a.v + row, shape.kv_row, end - key, size, keep, vectors);
    bool kept[kS];
#pragma unroll
    for (int s = 0; s < kS; ++s) {
      const int j = thread_column() + s * kThreadColumns;
      kept[s] = key + j < end && (keep == nullptr || keep[j] != 0);
    }
    __syncthreads();
    float ds[kR][kS], products[kR][kS];
    rows_times_rows<kWidth>(q_tile, k_tile, size, ds);
    rows_times_rows<kWidth>(dout_tile, v_tile, size, products);
#pragma unroll
    for (int r = 0; r < kR; ++r)
#pragma unroll
      for (int s = 0; s < kS; ++s) {
        const int i = first + thread_row() + r * kThreadRows;
        const int j = key + thread_column() + s * kThreadColumns;
        const float p = expf(scale * ds[r][s] - lse[r]);
        const bool allowed = kept[s] && i < queries && j <= offset + i;
        ds[r][s] = allowed ? scale * p * (products[r][s] - sums[r]) : 0.0f;
      }
    keep_rows(ds_tile, ds);
    __syncwarp();
    add_rows_times_tile<kWidth, Tile::kRows>(ds_tile, k_tile, dq);
  }
#pragma unroll
  for (int r = 0; r < kR; ++r) {
    const int i = thread_row() + r * kThreadRows;
    if (first + i < queries) write_row(a.dq + at + i * shape.q_row, size, dq[r], 1.0f, vectors);
  }
}

template <typename Kernel, typename T>
void launch_tiles(Kernel kernel, const AttentionBackward<T>& a, const float* delta,
                  std::int64_t positions, int rows, int bytes, bool vectors, cudaStream_t stream) {
  const AttentionShape& s = a.shape;
  const std::int64_t tiles = (positions + rows - 1) / rows;
  if (tiles == 0) return;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  kernel<<<static_cast<unsigned>(tiles * s.windows * s.heads), kTileThreads, bytes, stream>>>(
      a, delta, static_cast<int>(tiles), softmax_scale(s), vectors);
  check_launch("attention_backward");
}

template <int kWidth, typename T>
void launch(const AttentionBackward<T>& a, const float* delta, bool vectors, cudaStream_t stream) {
  using Tile = BackwardTile<kWidth>;
  constexpr int kBytes = Tile::kFloats * static_cast<int>(sizeof(float));
  launch_tiles(key_gradients<T, kWidth>, a, delta, a.shape.keys, Tile::kRows, kBytes, vectors,
               stream);
  launch_tiles(query_gradients<T, kWidth>, a, delta, a.shape.queries, Tile::kRows, kBytes, vectors,
               stream);
}

}  // namespace

template <typename T>
void attention_backward_tiles(const AttentionBackward<T>& a, float* delta, cudaStream_t stream) {
  const AttentionShape& s = a.shape;
  const bool vectors = strides_divide(s, 4) &&
                       are_aligned(4 * sizeof(T), a.q, a.k, a.v, a.out, a.dout, a.dq, a.dk, a.dv);
  const std::int64_t rows = s.windows * s.queries * s.heads;
  if (rows > 0) {
    row_sums<<<grid_blocks(rows * kThreadColumns), kBlockThreads, 0, stream>>>(
        rows, a.dout, a.out, static_cast<int>(s.queries), static_cast<int>(s.heads),
        static_cast<int>(s.head_size), vectors, delta);
    check_launch("attention_backward");
  }
  if (s.head_size <= 64)
    launch<64>(a, delta, vectors, stream);
  else if (s.head_size <= 128)
    launch<128>(a, delta, vectors, stream);
  else
    launch<256>(a, delta, vectors, stream);
}

template void attention_backward_tiles(const AttentionBackward<float>&, float*, cudaStream_t);
template void attention_backward_tiles(const AttentionBackward<bf16>&, float*, cudaStream_t);

}  // namespace tessera::kernels::cuda
