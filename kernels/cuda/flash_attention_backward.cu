// Causal attention of long windows on tensor cores, backward, bf16 (attention_paths.h), in the form
// of FlashAttention-2 (Dao 2023).
//
// Deterministic without atomics: one kernel by tiles of queries sums dq, one by tiles of keys sums
// dk and dv, each computing the scores again (seven products instead of five). In both a warp owns
// rows of the stationary side and the products' orders are chosen (S for dq, its transpose for dk
// and dv) so that p and ds go from accumulators to operands in registers: nothing but the streamed
// tiles passes through shared memory. A first kernel computes D_i and gives rows beyond the length
// an lse of infinity, by which their p vanish.
#include <cmath>

#include "kernels/cuda/attention_paths.h"
#include "kernels/cuda/flash_launch.cuh"
#include "kernels/cuda/flash_tile.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr const char* kName = "flash_attention_backward";
constexpr int kRowsPadded = 64;  // rows of a sequence in the workspace are a multiple
constexpr float kLog2E = 1.44269504088896340736f;

// What a row brings to its scores, [windows, heads, padded length] each.
struct RowTerms {
  float *lse, *delta;  // to base 2; D_i
  int padded;
};

struct BackwardArgs {
  FlashGrid grid;
  const bf16 *qkv, *out, *dout;
  bf16* dqkv;
  const float* lse;
  RowTerms rows;
  float scale, scale2;  // of scores; to base 2
};

// kSub of a step's kStep streamed rows are worked on at a time. kParts blocks share a tile's keys,
// each with some columns of dk and dv.
template <int kHeadSize, int kWarps, int kWarpTiles, int kStepRows, int kSubRows, bool kHoldRows,
          int kBuffers, int kColumnParts = 1>
struct Backward {
  static constexpr int kHead = kHeadSize, kThreads = 32 * kWarps, kTiles = kWarpTiles;
  static constexpr int kRows = 16 * kTiles * kWarps, kStep = kStepRows, kSub = kSubRows;
  static constexpr bool kHold = kHoldRows;
  static constexpr int kStages = kBuffers, kParts = kColumnParts, kColumns = kHead / kParts;
  static constexpr int kRowsBytes = kRows * Tile<kHead>::kRowBytes;
  static constexpr int kTileBytes = kStep * Tile<kHead>::kRowBytes;
  static constexpr int kStageBytes = 2 * kTileBytes + 2 * kStep * 4;  // two tiles, row terms
  static constexpr int kSharedBytes = 2 * kRowsBytes + kStages * kStageBytes;
  static constexpr int kBlocks = 2;  // a processor
  static_assert(kRowsPadded % kStep == 0 && kRows % kStep == 0 && kColumns % 16 == 0);
  static_assert(kSharedBytes <= 99 * 1024);
};

template <int kHead>
struct QueryPlan : Backward<kHead, 4, 2, 64, 32, true, 2> {};
template <>
struct QueryPlan<80> : Backward<80, 4, 1, 64, 64, true, 2> {};
template <>
struct QueryPlan<96> : Backward<96, 4, 1, 64, 64, true, 2> {};
template <>
struct QueryPlan<128> : Backward<128, 4, 1, 64, 32, true, 2> {};
template <>
struct QueryPlan<256> : Backward<256, 4, 1, 32, 32, false, 1> {};

template <int kHead>
struct KeyPlan : Backward<kHead, 4, 2, 64, 32, false, 2> {};
template <>
struct KeyPlan<80> : Backward<80, 4, 1, 64, 32, true, 2> {};
template <>
struct KeyPlan<96> : Backward<96, 4, 1, 64, 32, false, 2> {};
template <>
struct KeyPlan<128> : Backward<128, 4, 1, 64, 32, false, 2> {};
template <>
struct KeyPlan<256> : Backward<256, 4, 1, 32, 32, false, 1, 2> {};

// Where a block's sequence lies.
struct Sequence {
  std::int64_t stride, out_stride;  // of rows
  std::int64_t first, out_first;    // elements before it: q of its first row; of out
  std::int64_t terms;               // in RowTerms

  __device__ Sequence(const BackwardArgs& args, const FlashWork& work, int head_size) {
    const std::int64_t heads = args.grid.heads, window = work.window;
    out_stride = heads * head_size;
    stride = 3 * out_stride;
    first = window * args.grid.length * stride + work.head * (3 * head_size);
    out_first = window * args.grid.length * out_stride + work.head * head_size;
    terms = (window * heads + work.head) * args.rows.padded;
  }
};

// D_i = dout_i . out_i and lse to base 2; kLanes threads a row, rows in the order of out.
template <int kHead>
__global__ void __launch_bounds__(256) row_terms(const BackwardArgs args) {
  constexpr int kLanes = Tile<kHead>::kPeriod, kChunks = Tile<kHead>::kChunks;
  const int heads = args.grid.heads, length = args.grid.length, padded = args.rows.padded;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  const std::int64_t item = thread / kLanes;
  const int lane = static_cast<int>(thread % kLanes);
  const int head = static_cast<int>(item % heads);
  const std::int64_t row = item / heads % padded, window = item / heads / padded;
  const bool exists = window * heads < args.grid.sequences, inside = exists && row < length;

  float sum = 0;
  if (inside) {
    const std::int64_t at = ((window * length + row) * heads + head) * kChunks;
    const auto* out = reinterpret_cast<const uint4*>(args.out) + at;
    const auto* dout = reinterpret_cast<const uint4*>(args.dout) + at;
#pragma unroll
    for (int i = 0; i < kChunks / kLanes; ++i) {
      const uint4 x = out[i * kLanes + lane], y = dout[i * kLanes + lane];
      const std::uint32_t a[4] = {x.x, x.y, x.z, x.w}, b[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sum = fmaf(__uint_as_float(a[j] << 16), __uint_as_float(b[j] << 16), sum);
        sum = fmaf(__uint_as_float(a[j] & 0xffff0000u), __uint_as_float(b[j] & 0xffff0000u), sum);
      }
    }
  }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (!exists || lane != 0) return;
  const std::int64_t sequence = window * heads + head;
  args.rows.delta[sequence * padded + row] = sum;
  args.rows.lse[sequence * padded + row] =
      inside ? kLog2E * args.lse[sequence * length + row] : INFINITY;
}

template <typename P>
__global__ void __launch_bounds__(P::kThreads, P::kBlocks) query_tile(const BackwardArgs args) {
  constexpr int kHead = P::kHead, kTiles = P::kTiles, kStep = P::kStep, kSub = P::kSub;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int length = args.grid.length;
  const FlashWork work = flash_work(args.grid, blockIdx.x);
  const Sequence sequence(args, work, kHead);
  const int first_row = (args.grid.tiles - 1 - work.tile) * P::kRows;
  const int warp_row = first_row + warp * 16 * kTiles;

  const bf16 *q = args.qkv + sequence.first, *k = q + kHead, *v = k + kHead;
  const bf16* dout = args.dout + sequence.out_first;
  const std::uint32_t q_tile = shared_memory(), dout_tile = q_tile + P::kRowsBytes;
  const std::uint32_t stream = dout_tile + P::kRowsBytes;
  const LaneOffsets<kHead> lanes(lane);

  const auto load_step = [&](int step) {
    const int key = step * kStep;
    const std::uint32_t to = stream + step % P::kStages * P::kStageBytes;
    load_tile<kHead, kStep, P::kThreads>(thread, to, k + key * sequence.stride, sequence.stride,
                                         length - key);
    load_tile<kHead, kStep, P::kThreads>(thread, to + P::kTileBytes, v + key * sequence.stride,
                                         sequence.stride, length - key);
    commit_copies();
  };
  load_tile<kHead, P::kRows, P::kThreads>(thread, q_tile, q + first_row * sequence.stride,
                                          sequence.stride, length - first_row);
  load_tile<kHead, P::kRows, P::kThreads>(thread, dout_tile, dout + first_row * sequence.out_stride,
                                          sequence.out_stride, length - first_row);
  commit_copies();
  load_step(0);

  float lse[kTiles][2], delta[kTiles][2], scale[kTiles][2];
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row + 16 * m + 8 * half + lane / 4;
      const bool inside = row < args.rows.padded;
      lse[m][half] = inside ? args.rows.lse[sequence.terms + row] : INFINITY;
      delta[m][half] = inside ? args.rows.delta[sequence.terms + row] : 0;
      scale[m][half] = args.scale;
    }
  wait_copies<1>();
  __syncthreads();
  const std::uint32_t warp_offset = warp * 16 * kTiles * Tile<kHead>::kRowBytes;
  WarpRows<kHead, kTiles, P::kHold> queries, gradients;
  queries.load(q_tile + warp_offset, lanes);
  gradients.load(dout_tile + warp_offset, lanes);

  Accumulator<kTiles, kHead> dq;
  clear(dq);
  const int keys = min(length, first_row + P::kRows), steps = (keys + kStep - 1) / kStep;
  for (int step = 0; step < steps; ++step) {
    wait_copies<0>();
    __syncthreads();  // the step has arrived, and nobody reads the other buffer any more
    if (P::kStages > 1 && step + 1 < steps) load_step(step + 1);
    const std::uint32_t k_tile = stream + step % P::kStages * P::kStageBytes;
    const std::uint32_t v_tile = k_tile + P::kTileBytes;
#pragma unroll
    for (int sub = 0; sub < kStep / kSub; ++sub) {
      const int key = step * kStep + sub * kSub;
      if (key > warp_row + 16 * kTiles - 1 || warp_row >= length) break;
      const std::uint32_t rows = sub * kSub * Tile<kHead>::kRowBytes;
      Accumulator<kTiles, kSub> s, ds;
      row_products(s, queries, k_tile + rows, lanes);
      row_products(ds, gradients, v_tile + rows, lanes);
      if (key + kSub - 1 > warp_row) mask_after(s, warp_row, key, lane);
#pragma unroll
      for (int j = 0; j < kSub / 16; ++j) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m)
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            const int n = 2 * j + i / 4, e = i % 4;
            const float p = fast_exp2(fmaf(s[m][n][e], args.scale2, -lse[m][e / 2]));
            ds[m][n][e] = p * (ds[m][n][e] - delta[m][e / 2]);
          }
        std::uint32_t a[kTiles][4];
        to_fragment(a, ds, j);
        add_product(dq, a, k_tile + rows, j, lanes);
      }
    }
    if (P::kStages == 1 && step + 1 < steps) {
      __syncthreads();
      load_step(step + 1);
    }
  }
  store_rows<kHead>(lane, dq, scale, q_tile + warp_offset,
                    args.dqkv + sequence.first + warp_row * sequence.stride, sequence.stride,
                    length - warp_row);
}

template <typename P>
__global__ void __launch_bounds__(P::kThreads, P::kBlocks) key_tile(const BackwardArgs args) {
  constexpr int kHead = P::kHead, kTiles = P::kTiles, kStep = P::kStep, kSub = P::kSub;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int length = args.grid.length;
  const FlashWork work = flash_work(args.grid, blockIdx.x);
  const Sequence sequence(args, work, kHead);
  const int first_key = work.tile / P::kParts * P::kRows;
  const int warp_key = first_key + warp * 16 * kTiles;
  const int column = work.tile % P::kParts * P::kColumns;

  const bf16 *q = args.qkv + sequence.first, *k = q + kHead, *v = k + kHead;
  const bf16* dout = args.dout + sequence.out_first;
  const std::uint32_t k_tile = shared_memory(), v_tile = k_tile + P::kRowsBytes;
  const std::uint32_t stream = v_tile + P::kRowsBytes;
  const LaneOffsets<kHead> lanes(lane);

  const auto load_step = [&](int step) {
    const int row = step * kStep;
    const std::uint32_t to = stream + step % P::kStages * P::kStageBytes;
    load_tile<kHead, kStep, P::kThreads>(thread, to, q + row * sequence.stride, sequence.stride,
                                         length - row);
    load_tile<kHead, kStep, P::kThreads>(thread, to + P::kTileBytes,
                                         dout + row * sequence.out_stride, sequence.out_stride,
                                         length - row);
    constexpr int kChunks = kStep / 4;
    static_assert(2 * kChunks <= P::kThreads);
    if (thread < 2 * kChunks) {
      const float* from = thread < kChunks ? args.rows.lse : args.rows.delta;
      copy_async(to + 2 * P::kTileBytes + thread * 16,
                 from + sequence.terms + row + thread % kChunks * 4, true);
    }
    commit_copies();
  };
  const std::int64_t key_start = first_key * sequence.stride;
  load_tile<kHead, P::kRows, P::kThreads>(thread, k_tile, k + key_start, sequence.stride,
                                          length - first_key);
  load_tile<kHead, P::kRows, P::kThreads>(thread, v_tile, v + key_start, sequence.stride,
                                          length - first_key);
  commit_copies();
  const int first_step = first_key / kStep, steps = (length + kStep - 1) / kStep;
  load_step(first_step);
  wait_copies<1>();
  __syncthreads();
  const std::uint32_t warp_offset = warp * 16 * kTiles * Tile<kHead>::kRowBytes;
  WarpRows<kHead, kTiles, P::kHold> keys, values;
  keys.load(k_tile + warp_offset, lanes);
  values.load(v_tile + warp_offset, lanes);

  Accumulator<kTiles, P::kColumns> dk, dv;
  clear(dk);
  clear(dv);
  for (int step = first_step; step < steps; ++step) {
    wait_copies<0>();
    __syncthreads();  // the step has arrived, and nobody reads the other buffer any more
    if (P::kStages > 1 && step + 1 < steps) load_step(step + 1);
    const std::uint32_t stage = stream + step % P::kStages * P::kStageBytes;
#pragma unroll
    for (int sub = 0; sub < kStep / kSub; ++sub) {
      const int row = step * kStep + sub * kSub;
      if (row + kSub - 1 < warp_key || warp_key >= length) continue;
      const std::uint32_t q_rows = stage + sub * kSub * Tile<kHead>::kRowBytes;
      const std::uint32_t dout_rows = q_rows + P::kTileBytes;
      const std::uint32_t terms = stage + 2 * P::kTileBytes + (sub * kSub + 2 * (lane % 4)) * 4;
      // Transposed: rows are keys, columns queries.
      Accumulator<kTiles, kSub> p, ds;
      row_products(p, keys, q_rows, lanes);
      if (row < warp_key + 16 * kTiles - 1) mask_before(p, warp_key, row, lane);
#pragma unroll
      for (int n = 0; n < kSub / 8; ++n) {
        const float2 lse = load_shared_pair(terms + n * 32);
#pragma unroll
        for (int m = 0; m < kTiles; ++m)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            p[m][n][e] = fast_exp2(fmaf(p[m][n][e], args.scale2, -(e % 2 ? lse.y : lse.x)));
      }
      row_products(ds, values, dout_rows, lanes);
#pragma unroll
      for (int j = 0; j < kSub / 16; ++j) {
        std::uint32_t a[kTiles][4];
        to_fragment(a, p, j);
        add_product(dv, a, dout_rows + column * 2, j, lanes);
#pragma unroll
        for (int n = 2 * j; n < 2 * j + 2; ++n) {
          const float2 delta = load_shared_pair(terms + kStep * 4 + n * 32);
#pragma unroll
          for (int m = 0; m < kTiles; ++m)
#pragma unroll
            for (int e = 0; e < 4; ++e)
              ds[m][n][e] = p[m][n][e] * (ds[m][n][e] - (e % 2 ? delta.y : delta.x));
        }
        to_fragment(a, ds, j);
        add_product(dk, a, q_rows + column * 2, j, lanes);
      }
    }
    if (P::kStages == 1 && step + 1 < steps) {
      __syncthreads();
      load_step(step + 1);
    }
  }

  float scale[kTiles][2], one[kTiles][2];
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) scale[m][half] = args.scale, one[m][half] = 1;
  bf16* dk_to = args.dqkv + sequence.first + kHead + warp_key * sequence.stride + column;
  store_rows<kHead>(lane, dk, scale, k_tile + warp_offset, dk_to, sequence.stride,
                    length - warp_key);
  store_rows<kHead>(lane, dv, one, v_tile + warp_offset, dk_to + kHead, sequence.stride,
                    length - warp_key);
}

std::int64_t padded_length(std::int64_t length) {
  return (length + kRowsPadded - 1) / kRowsPadded * kRowsPadded;
}

// Of one of the two arrays of RowTerms.
std::int64_t term_count(const WindowAttentionShape<bf16>& shape) {
  return shape.windows * shape.heads * padded_length(shape.length);
}

template <int kHead>
void launch_row_terms(const BackwardArgs& args, std::int64_t rows, cudaStream_t stream) {
  const std::int64_t blocks = (rows * Tile<kHead>::kPeriod + kBlockThreads - 1) / kBlockThreads;
  if (blocks > std::numeric_limits<int>::max())
    throw Error(Category::device, std::string(kName) + ": " + std::to_string(rows) +
                                      " rows and heads are more than one launch can take");
  row_terms<kHead><<<static_cast<unsigned>(blocks), kBlockThreads, 0, stream>>>(args);
  check_launch(kName);
}

template <typename P>
void launch(void (*kernel)(BackwardArgs), BackwardArgs args,
            const WindowAttentionShape<bf16>& shape, cudaStream_t stream) {
  args.grid = flash_grid(shape, P::kRows, P::kParts, kName);
  launch_tiles(kernel, args.grid, P::kThreads, P::kSharedBytes, stream, args, kName);
}

}  // namespace

template <>
std::int64_t flash_attention_workspace<bf16>(const WindowAttentionShape<bf16>& shape) {
  return std::max(scalar_attention_workspace(shape),
                  2 * term_count(shape) * static_cast<std::int64_t>(sizeof(float)));
}

template <>
void flash_attention_backward<bf16>(const WindowAttentionBackward<bf16>& args, std::byte* workspace,
                                    cudaStream_t stream) {
  const WindowAttentionShape<bf16>& shape = args.shape;
  if (shape.windows <= 0 || shape.length <= 0 || shape.heads <= 0) return;
  const bool taken = are_vectors(args.qkv, args.out, args.dout, args.dqkv, workspace) &&
                     with_head_size(shape.head_size, [&](auto head) {
                       constexpr int kHead = decltype(head)::value;
                       BackwardArgs a;
                       a.grid = flash_grid(shape, 1, 1, kName);
                       a.qkv = args.qkv, a.out = args.out, a.dout = args.dout, a.dqkv = args.dqkv;
                       a.lse = args.lse;
                       a.rows.lse = reinterpret_cast<float*>(workspace);
                       a.rows.delta = a.rows.lse + term_count(shape);
                       a.rows.padded = static_cast<int>(padded_length(shape.length));
                       a.scale = 1 / std::sqrt(static_cast<float>(kHead));
                       a.scale2 = kLog2E * a.scale;
                       launch_row_terms<kHead>(a, term_count(shape), stream);
                       launch<QueryPlan<kHead>>(query_tile<QueryPlan<kHead>>, a, shape, stream);
                       launch<KeyPlan<kHead>>(key_tile<KeyPlan<kHead>>, a, shape, stream);
                     });
  if (!taken) scalar_attention_backward(args, workspace, stream);
}

}  // namespace tessera::kernels::cuda
