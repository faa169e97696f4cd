// Backward of causal attention on Hopper's tensor cores, head size 64.
//
// With p_ij = exp(s_ij - lse_i) and ds_ij = p_ij (dout_i . v_j - D_i), D_i = dout_i . out_i:
//   by keys:    S^T = K Q^T, dP^T = V dO^T, dV += P^T dO, dK += dS^T Q     loop over query tiles
//   by queries: S = Q K^T,   dP = dO V^T,   dQ += dS K                     loop over key tiles
// The transposed form of the first leaves P^T and dS^T in registers just as the second product
// wants its left operand, so neither passes through shared memory; S is recomputed in the second
// kernel, which costs 2 of 7 products and buys a fixed order without atomics.
//
// Three warpgroups of 64 rows share the tiles that stream by (three stages, cp.async). Each waits
// for its own products only, so one's exponentials run under another's products.
#include <cstdlib>

#include "kernels/cuda/hopper_attention.cuh"
#include "kernels/cuda/hopper_attention.h"
#include "kernels/cuda/launch.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kStages = 3;

struct Problem {
  const __nv_bfloat16 *qkv, *dout;
  const float *lse, *delta;  // [windows, heads, length]
  __nv_bfloat16* dqkv;
  int length, heads;
  float scale;

  // First element of q, k or v (part 0, 1, 2) of a window's head, and the row stride.
  [[maybe_unused]] __host__ __device__ std::int64_t at(int pair, int part) const {
    const std::int64_t window = pair / heads, head = pair % heads;
    return (window * length * heads + head) * 3 * kHead + part * kHead;
  }
  [[maybe_unused]] __host__ __device__ std::int64_t stride() const {
    return std::int64_t{3} * heads * kHead;
  }
  [[maybe_unused]] __host__ __device__ std::int64_t out_at(int pair) const {
    const std::int64_t window = pair / heads, head = pair % heads;
    return (window * length * heads + head) * kHead;
  }
  [[maybe_unused]] __host__ __device__ std::int64_t out_stride() const {
    return std::int64_t{heads} * kHead;
  }
};

constexpr int kResidentBytes = 2 * kBlockRows * kTileRowBytes;  // the block's own two operands
constexpr int kStageBytes = 2 * kTileBytes;
// By keys, lse and delta of each stage's queries; alignment of the dynamic part.
constexpr int kSharedBytes =
    kResidentBytes + kStages * kStageBytes + kStages * 2 * kRows * 4 + 1024;

template <int groups>
__global__ void __launch_bounds__(groups * 128, 1) by_keys(const Problem problem) {
#ifdef TESSERA_WGMMA
  constexpr int kThreads = groups * 128, kKeys = groups * kRows;
  constexpr int kResident = 2 * kKeys * kTileRowBytes;
  char* shared = aligned_shared();
  const std::uint32_t keys = shared_address(shared), values = keys + kKeys * kTileRowBytes;
  const std::uint32_t stages = keys + kResident;
  float* statistics = reinterpret_cast<float*>(shared + kResident + kStages * kStageBytes);

  const int pair = static_cast<int>(blockIdx.x), first_key = static_cast<int>(blockIdx.y) * kKeys;
  const int length = problem.length, tiles = (length + kRows - 1) / kRows;
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int lane = static_cast<int>(threadIdx.x) % 32,
            warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const std::int64_t stride = problem.stride(), out_stride = problem.out_stride();
  const __nv_bfloat16* q = problem.qkv + problem.at(pair, 0);
  const __nv_bfloat16* dout = problem.dout + problem.out_at(pair);
  const float* lse = problem.lse + static_cast<std::int64_t>(pair) * length;
  const float* delta = problem.delta + static_cast<std::int64_t>(pair) * length;
  const float scale2 = problem.scale * kLog2E;

  const auto load_stage = [&](int stage, int tile) {
    const int row = tile * kRows;
    load_tile<kThreads>(stages + stage * kStageBytes, q + row * stride, stride, kRows,
                        length - row);
    load_tile<kThreads>(stages + stage * kStageBytes + kTileBytes, dout + row * out_stride,
                        out_stride, kRows, length - row);
    // Rows that do not exist: lse = inf makes their p zero.
    if (threadIdx.x < kRows) {
      const int i = row + static_cast<int>(threadIdx.x);
      statistics[stage * 2 * kRows + threadIdx.x] =
          i < length ? lse[i] * kLog2E : __int_as_float(0x7f800000);
      statistics[stage * 2 * kRows + kRows + threadIdx.x] = i < length ? delta[i] : 0.0f;
    }
  };

  load_tile<kThreads>(keys, problem.qkv + problem.at(pair, 1) + first_key * stride, stride, kKeys,
                      length - first_key);
  load_tile<kThreads>(values, problem.qkv + problem.at(pair, 2) + first_key * stride, stride, kKeys,
                      length - first_key);
  const int first_tile = first_key / kRows;
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (first_tile + s < tiles) load_stage(s, first_tile + s);
    copies_commit();
  }

  const int own_tile = first_tile + group;  // of the warpgroup's keys
  const bool active = own_tile < tiles;
  const std::uint32_t own_keys = keys + group * kTileBytes,
                      own_values = values + group * kTileBytes;
  constexpr bool kInRegisters = groups == 2;
  std::uint32_t key_fragments[16], value_fragments[16];
  float dk[32], dv[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) dk[i] = dv[i] = 0.0f;

  for (int tile = first_tile, step = 0; tile < tiles; ++tile, ++step) {
    copies_wait<kStages - 2>();
    publish_copies();
    __syncthreads();  // the stage has arrived, and everybody has left the one that is loaded next
    if (tile + kStages - 1 < tiles) load_stage((step + kStages - 1) % kStages, tile + kStages - 1);
    copies_commit();
    if (!active || tile < own_tile) continue;
    if constexpr (kInRegisters)
      if (tile == own_tile) {
        load_fragments(key_fragments, own_keys);
        load_fragments(value_fragments, own_values);
      }

    const int stage = step % kStages;
    const std::uint32_t queries = stages + stage * kStageBytes, douts = queries + kTileBytes;
    const float2* row_lse = reinterpret_cast<const float2*>(statistics + stage * 2 * kRows);
    const float2* row_delta = row_lse + kRows / 2;
    float s[32], dp[32];
    std::uint32_t fragments[16], ds_fragments[16];
    products_begin();
    if constexpr (kInRegisters)
      product(s, key_fragments, queries);
    else
      product(s, own_keys, queries);
    products_commit();
    if constexpr (kInRegisters)
      product(dp, value_fragments, douts);
    else
      product(dp, own_values, douts);
    products_commit();
    products_wait<1>();
    settle(s);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 l = row_lse[4 * j + lane % 4];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        s[4 * j + e] = exp2f(s[4 * j + e] * scale2 - (e % 2 == 0 ? l.x : l.y));
    }
    if (tile == own_tile) {
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int key = 16 * warp + lane / 4 + 8 * (i / 2 % 2);
        const int query = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
        if (query < key) s[i] = 0.0f;
      }
    }
    to_fragments(s, fragments);
    products_wait<0>();
    settle(dp);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 d = row_delta[4 * j + lane % 4];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        dp[4 * j + e] = s[4 * j + e] * (dp[4 * j + e] - (e % 2 == 0 ? d.x : d.y));
    }
    to_fragments(dp, ds_fragments);
    products_begin();
    fragment_product(dv, fragments, douts);
    fragment_product(dk, ds_fragments, queries);
    products_commit();
    products_wait<0>();
    settle(dv);
    settle(dk);
  }
  if (!active) return;
  const int row = first_key + group * kRows;
  store(dk, problem.scale, problem.dqkv + problem.at(pair, 1) + row * stride, stride, length - row);
  store(dv, 1.0f, problem.dqkv + problem.at(pair, 2) + row * stride, stride, length - row);
#endif
}

__global__ void __launch_bounds__(kHopperThreads, 1) by_queries(const Problem problem) {
#ifdef TESSERA_WGMMA
  char* shared = aligned_shared();
  const std::uint32_t queries = shared_address(shared),
                      douts = queries + kBlockRows * kTileRowBytes;
  const std::uint32_t stages = queries + kResidentBytes;

  // Later queries see more keys: they go first.
  const int block = static_cast<int>(gridDim.y - 1 - blockIdx.y);
  const int pair = static_cast<int>(blockIdx.x), first_query = block * kBlockRows;
  const int length = problem.length, all = (length + kRows - 1) / kRows;
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int lane = static_cast<int>(threadIdx.x) % 32,
            warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const std::int64_t stride = problem.stride();
  const __nv_bfloat16* k = problem.qkv + problem.at(pair, 1);
  const __nv_bfloat16* v = problem.qkv + problem.at(pair, 2);
  const float scale2 = problem.scale * kLog2E;

  const auto load_stage = [&](int stage, int tile) {
    const int row = tile * kRows;
    load_tile<kHopperThreads>(stages + stage * kStageBytes, k + row * stride, stride, kRows,
                              length - row);
    load_tile<kHopperThreads>(stages + stage * kStageBytes + kTileBytes, v + row * stride, stride,
                              kRows, length - row);
  };
  load_tile<kHopperThreads>(queries, problem.qkv + problem.at(pair, 0) + first_query * stride,
                            stride, kBlockRows, length - first_query);
  load_tile<kHopperThreads>(
      douts, problem.dout + problem.out_at(pair) + first_query * problem.out_stride(),
      problem.out_stride(), kBlockRows, length - first_query);
  const int own_tile = first_query / kRows + group;
  const bool active = own_tile < all;
  const int tiles = min(all, first_query / kRows + kGroups);  // key tiles that any row sees
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < tiles) load_stage(s, s);
    copies_commit();
  }

  // This thread's two rows.
  float lse[2], delta[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_query + group * kRows + 16 * warp + lane / 4 + 8 * i;
    const std::int64_t at = static_cast<std::int64_t>(pair) * length + row;
    lse[i] = row < length ? problem.lse[at] * kLog2E : __int_as_float(0x7f800000);
    delta[i] = row < length ? problem.delta[at] : 0.0f;
  }
  const std::uint32_t own_queries = queries + group * kTileBytes,
                      own_douts = douts + group * kTileBytes;
  std::uint32_t query_fragments[16], dout_fragments[16];
  float dq[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) dq[i] = 0.0f;

  for (int tile = 0; tile < tiles; ++tile) {
    copies_wait<kStages - 2>();
    publish_copies();
    __syncthreads();
    if (tile + kStages - 1 < tiles) load_stage((tile + kStages - 1) % kStages, tile + kStages - 1);
    copies_commit();
    if (!active || tile > own_tile) continue;
    if (tile == 0) {
      load_fragments(query_fragments, own_queries);
      load_fragments(dout_fragments, own_douts);
    }

    const std::uint32_t keys = stages + tile % kStages * kStageBytes, values = keys + kTileBytes;
    float s[32], dp[32];
    std::uint32_t fragments[16];
    products_begin();
    product(s, query_fragments, keys);
    products_commit();
    product(dp, dout_fragments, values);
    products_commit();
    products_wait<1>();
    settle(s);
#pragma unroll
    for (int i = 0; i < 32; ++i) s[i] = exp2f(s[i] * scale2 - lse[i / 2 % 2]);
    if (tile == own_tile) {
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int query = 16 * warp + lane / 4 + 8 * (i / 2 % 2);
        const int key = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
        if (key > query) s[i] = 0.0f;
      }
    }
    products_wait<0>();
    settle(dp);
#pragma unroll
    for (int i = 0; i < 32; ++i) dp[i] = s[i] * (dp[i] - delta[i / 2 % 2]);
    to_fragments(dp, fragments);
    products_begin();
    fragment_product(dq, fragments, keys);
    products_commit();
    products_wait<0>();
    settle(dq);
  }
  if (!active) return;
  const int row = first_query + group * kRows;
  store(dq, problem.scale, problem.dqkv + problem.at(pair, 0) + row * stride, stride, length - row);
#endif
}

// delta[w, h, i] = dout . out, eight lanes a row and head.
__global__ void row_products(const __nv_bfloat16* __restrict__ out,
                             const __nv_bfloat16* __restrict__ dout, float* __restrict__ delta,
                             int length, int heads, std::int64_t count) {
  const std::int64_t item = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 8;
  const int part = static_cast<int>(threadIdx.x) % 8;
  float sum = 0.0f;
  if (item < count) {
    const uint4 a = reinterpret_cast<const uint4*>(out + item * kHead)[part];
    const uint4 b = reinterpret_cast<const uint4*>(dout + item * kHead)[part];
    const std::uint32_t x[4] = {a.x, a.y, a.z, a.w}, y[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum += __uint_as_float(x[i] << 16) * __uint_as_float(y[i] << 16);
      sum += __uint_as_float(x[i] & 0xffff0000u) * __uint_as_float(y[i] & 0xffff0000u);
    }
  }
#pragma unroll
  for (int offset = 4; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  if (item >= count || part != 0) return;
  const std::int64_t row = item / heads, head = item % heads;
  delta[(row / length * heads + head) * length + row % length] = sum;
}

}  // namespace

bool hopper_backward_ready() {
  static const bool ready =
      hopper_kernel_ready(reinterpret_cast<const void*>(by_keys<3>), kSharedBytes) &&
      hopper_kernel_ready(reinterpret_cast<const void*>(by_keys<2>), kSharedBytes) &&
      hopper_kernel_ready(reinterpret_cast<const void*>(by_queries), kSharedBytes);
  return ready;
}

std::int64_t hopper_attention_workspace(const WindowAttentionShape<bf16>& shape) {
  return shape.windows * shape.heads * shape.length * static_cast<std::int64_t>(sizeof(float));
}

void hopper_attention_backward(const WindowAttentionBackward<bf16>& args, std::byte* workspace,
                               cudaStream_t stream) {
  const WindowAttentionShape<bf16>& s = args.shape;
  const std::int64_t rows = s.windows * s.length, count = rows * s.heads;
  if (count == 0) return;
  auto* delta = reinterpret_cast<float*>(workspace);
  const auto* dout = reinterpret_cast<const __nv_bfloat16*>(args.dout);
  const int length = static_cast<int>(s.length), heads = static_cast<int>(s.heads);
  row_products<<<static_cast<unsigned>((count * 8 + kBlockThreads - 1) / kBlockThreads),
                 kBlockThreads, 0, stream>>>(reinterpret_cast<const __nv_bfloat16*>(args.out), dout,
                                             delta, length, heads, count);
  check_launch("attention backward, row products");
  const Problem problem{
      reinterpret_cast<const __nv_bfloat16*>(args.qkv), dout,   args.lse, delta,
      reinterpret_cast<__nv_bfloat16*>(args.dqkv),      length, heads,    kHopperScale};
  static const bool two = getenv("TESSERA_TWO") != nullptr;
  const dim3 grid(static_cast<unsigned>(s.windows * s.heads),
                  static_cast<unsigned>((length + kBlockRows - 1) / kBlockRows));
  const dim3 grid2(static_cast<unsigned>(s.windows * s.heads),
                   static_cast<unsigned>((length + 127) / 128));
  if (two)
    by_keys<2><<<grid2, 256, kSharedBytes, stream>>>(problem);
  else
    by_keys<3><<<grid, kHopperThreads, kSharedBytes, stream>>>(problem);
  check_launch("attention backward by keys");
  by_queries<<<grid, kHopperThreads, kSharedBytes, stream>>>(problem);
  check_launch("attention backward by queries");
}

}  // namespace tessera::kernels::cuda
