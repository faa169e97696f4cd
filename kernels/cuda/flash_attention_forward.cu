// Causal attention of long windows on tensor cores, forward, bf16 (attention_paths.h).
//
// A block takes a tile of query rows; its warps keep 16 or 32 rows each, scores and output in
// registers, while keys and values stream through two buffers of shared memory, copied one step
// ahead: one barrier a step. Softmax is online, base 2. The reference that a row's exponents are
// taken against follows its maximum only when that has grown by more than 2^8 (a bf16 or float
// value keeps its relative precision at any scale), so rescaling, and the exchange between lanes
// that it needs, are rare. Steps wholly above a warp's rows are skipped.
#include <cmath>

#include "kernels/cuda/attention_paths.h"
#include "kernels/cuda/flash_launch.cuh"
#include "kernels/cuda/flash_tile.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr const char* kName = "flash_attention_forward";
constexpr float kSlack = 8;  // log2
constexpr float kLog2E = 1.44269504088896340736f, kLn2 = 0.69314718055994530942f;

struct ForwardArgs {
  FlashGrid grid;
  const bf16* qkv;
  bf16* out;
  float* lse;
  float scale;  // of scores, to base 2
};

template <int kHeadSize, int kWarps, int kWarpTiles, int kStep, bool kHoldQueries>
struct Forward {
  static constexpr int kHead = kHeadSize, kThreads = 32 * kWarps, kTiles = kWarpTiles;
  static constexpr int kRows = 16 * kTiles * kWarps;  // queries
  static constexpr int kKeys = kStep;
  static constexpr bool kHold = kHoldQueries;
  static constexpr int kTileBytes = kKeys * Tile<kHead>::kRowBytes;
  static constexpr int kSharedBytes = kRows * Tile<kHead>::kRowBytes + 4 * kTileBytes;
  static constexpr int kBlocks = 2;  // a processor
};

template <int kHead>
struct Plan : Forward<kHead, 4, 2, 64, true> {};
template <>
struct Plan<96> : Forward<96, 4, 2, 64, false> {};
template <>
struct Plan<128> : Forward<128, 4, 2, 64, false> {};
template <>
struct Plan<256> : Forward<256, 4, 1, 32, false> {};

// The running softmax of a warp's rows; this lane's are lane / 4 of each half of 16.
template <int kTiles>
struct Softmax {
  float reference[kTiles][2];  // scaled, to base 2
  float sum[kTiles][2];        // of this lane's columns

  __device__ Softmax() {
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) reference[m][half] = -INFINITY, sum[m][half] = 0;
  }

  // Moves the references, and rescales what was summed against them, where scores need it.
  template <int kScores, int kOut>
  __device__ void follow(const float (&s)[kTiles][kScores][4], float scale,
                         float (&out)[kTiles][kOut][4]) {
    float top[kTiles][2];
    bool grown = false;
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float t = -INFINITY;
#pragma unroll
        for (int n = 0; n < kScores; ++n)
          t = fmaxf(t, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        top[m][half] = t;
        grown |= fmaf(t, scale, -reference[m][half]) > kSlack;
      }
    if (!__any_sync(0xffffffffu, grown)) return;
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float t = top[m][half];
        t = fmaxf(t, __shfl_xor_sync(0xffffffffu, t, 1));
        t = fmaxf(t, __shfl_xor_sync(0xffffffffu, t, 2));
        const float next = fmaxf(reference[m][half], t * scale);
        const float factor = fast_exp2(reference[m][half] - next);
        reference[m][half] = next;
        sum[m][half] *= factor;
#pragma unroll
        for (int n = 0; n < kOut; ++n)
          out[m][n][2 * half] *= factor, out[m][n][2 * half + 1] *= factor;
      }
  }
};

template <typename P>
__global__ void __launch_bounds__(P::kThreads, P::kBlocks) forward_tile(const ForwardArgs args) {
  constexpr int kHead = P::kHead, kTiles = P::kTiles, kKeys = P::kKeys;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const FlashGrid& grid = args.grid;
  const FlashWork work = flash_work(grid, blockIdx.x);
  const int first_row = (grid.tiles - 1 - work.tile) * P::kRows;
  const int warp_row = first_row + warp * 16 * kTiles;
  const int last_warp_row = warp_row + 16 * kTiles - 1;
  const int length = grid.length;

  const std::int64_t stride = static_cast<std::int64_t>(3 * kHead) * grid.heads;
  const bf16* q = args.qkv + static_cast<std::int64_t>(work.window) * length * stride +
                  static_cast<std::int64_t>(work.head) * (3 * kHead);
  const bf16 *k = q + kHead, *v = k + kHead;
  const std::uint32_t q_tile = shared_memory();
  const std::uint32_t stream = q_tile + P::kRows * Tile<kHead>::kRowBytes;
  const LaneOffsets<kHead> lanes(lane);

  const auto load_step = [&](int step) {
    const int key = step * kKeys;
    const std::uint32_t to = stream + (step & 1) * (2 * P::kTileBytes);
    load_tile<kHead, kKeys, P::kThreads>(thread, to, k + key * stride, stride, length - key);
    load_tile<kHead, kKeys, P::kThreads>(thread, to + P::kTileBytes, v + key * stride, stride,
                                         length - key);
    commit_copies();
  };
  load_tile<kHead, P::kRows, P::kThreads>(thread, q_tile, q + first_row * stride, stride,
                                          length - first_row);
  commit_copies();
  load_step(0);
  wait_copies<1>();
  __syncthreads();
  const std::uint32_t warp_tile = q_tile + warp * 16 * kTiles * Tile<kHead>::kRowBytes;
  WarpRows<kHead, kTiles, P::kHold> queries;
  queries.load(warp_tile, lanes);

  Softmax<kTiles> softmax;
  Accumulator<kTiles, kHead> out;
  clear(out);
  const int keys = min(length, first_row + P::kRows), steps = (keys + kKeys - 1) / kKeys;
  for (int step = 0; step < steps; ++step) {
    wait_copies<0>();
    __syncthreads();  // the step has arrived, and nobody reads the other buffer any more
    if (step + 1 < steps) load_step(step + 1);
    const int key = step * kKeys;
    if (key > last_warp_row || warp_row >= length) continue;

    const std::uint32_t k_tile = stream + (step & 1) * (2 * P::kTileBytes);
    Accumulator<kTiles, kKeys> s;
    row_products(s, queries, k_tile, lanes);
    if (key + kKeys - 1 > warp_row) mask_after(s, warp_row, key, lane);
    softmax.follow(s, args.scale, out);
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j) {
#pragma unroll
      for (int m = 0; m < kTiles; ++m)
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& x = s[m][2 * j + i / 4][i % 4];
          x = fast_exp2(fmaf(x, args.scale, -softmax.reference[m][i % 4 / 2]));
          softmax.sum[m][i % 4 / 2] += x;
        }
      std::uint32_t p[kTiles][4];
      to_fragment(p, s, j);
      add_product(out, p, k_tile + P::kTileBytes, j, lanes);
    }
  }

  float factor[kTiles][2];
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = softmax.sum[m][half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      factor[m][half] = 1 / sum;
      const int row = warp_row + 16 * m + 8 * half + lane / 4;
      if (args.lse != nullptr && lane % 4 == 0 && row < length)
        args.lse[(static_cast<std::int64_t>(work.window) * grid.heads + work.head) * length + row] =
            kLn2 * (softmax.reference[m][half] + log2f(sum));
    }
  const std::int64_t out_stride = static_cast<std::int64_t>(kHead) * grid.heads;
  store_rows<kHead>(lane, out, factor, warp_tile,
                    args.out +
                        (static_cast<std::int64_t>(work.window) * length + warp_row) * out_stride +
                        work.head * kHead,
                    out_stride, length - warp_row);
}

}  // namespace

template <>
void flash_attention_forward<bf16>(const WindowAttentionForward<bf16>& args, cudaStream_t stream) {
  const WindowAttentionShape<bf16>& shape = args.shape;
  if (shape.windows <= 0 || shape.length <= 0 || shape.heads <= 0) return;
  const bool taken =
      are_vectors(args.qkv, args.out) && with_head_size(shape.head_size, [&](auto head) {
        using P = Plan<decltype(head)::value>;
        const FlashGrid grid = flash_grid(shape, P::kRows, 1, kName);
        const float scale = kLog2E / std::sqrt(static_cast<float>(P::kHead));
        launch_tiles(forward_tile<P>, grid, P::kThreads, P::kSharedBytes, stream,
                     ForwardArgs{grid, args.qkv, args.out, args.lse, scale}, kName);
      });
  if (!taken) scalar_attention_forward(args, stream);
}

}  // namespace tessera::kernels::cuda
