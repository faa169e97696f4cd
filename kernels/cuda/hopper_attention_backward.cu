// Backward of causal attention on Hopper's tensor cores, head size 64.
//
// With p_ij = exp(s_ij - lse_i) and ds_ij = p_ij (dout_i . v_j - D_i), D_i = dout_i . out_i:
//   by keys:    S^T = K Q^T, dP^T = V dO^T, dV += P^T dO, dK += dS^T Q     loop over query tiles
//   by queries: S = Q K^T,   dP = dO V^T,   dQ += dS K                     loop over key tiles
// The transposed form of the first leaves P^T and dS^T in registers just as the second product
// wants its left operand, so neither passes through shared memory; S is recomputed in the second
// kernel, which costs 2 of 7 products and buys a fixed order without atomics.
//
// Three warpgroups of 64 rows share the tiles that the copy engine streams by. Barriers per stage,
// not per block, let them drift up to two tiles apart, so that one's exponentials run under
// another's products. With 16 rotated components the results are turned back on their way out.
#include "kernels/cuda/hopper_attention.cuh"
#include "kernels/cuda/hopper_attention.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tma.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kStages = 4, kAhead = 2;  // loads run kAhead tiles ahead
constexpr int kStatistics = 2 * kRows;  // floats a tile: lse in powers of two, then D
constexpr int kStatisticsBytes = kStatistics * 4;
constexpr int kTurnedRotary = 16;

struct Problem {
  CUtensorMap qkv, dout;    // boxes of kRows
  const float* statistics;  // [windows * heads, tiles, kStatistics]
  const float *cos, *sin;   // [length, kTurnedRotary / 2]
  __nv_bfloat16* dqkv;
  int length, heads;
};

constexpr int kResidentBytes = 2 * kBlockRows * kTileRowBytes;  // the block's own two operands
constexpr int kStageBytes = 2 * kTileBytes;
constexpr int kSharedBytes =
    kResidentBytes + kStages * (kStageBytes + kStatisticsBytes) + 1024;  // 1024: alignment

#ifdef TESSERA_WGMMA

// The block's pipeline: thread 0 starts copies, warps say when they are done with a stage.
struct Pipeline {
  std::uint32_t resident, full, empty;  // barriers: one, kStages, kStages
  std::uint32_t stages, statistics;     // memory

  __device__ __forceinline__ void start(std::uint32_t barriers) {
    resident = barriers;
    full = barriers + 8;
    empty = full + 8 * kStages;
    if (threadIdx.x == 0) {
      barrier_init(resident, 1);
      for (int s = 0; s < kStages; ++s) {
        barrier_init(full + 8 * s, 1);
        barrier_init(empty + 8 * s, kHopperThreads / 32);
      }
      barriers_ready();
    }
    __syncthreads();
  }
  // Thread 0: copies tile number n of the block; `first` and `second` are started by the caller.
  template <typename Copies>
  __device__ __forceinline__ void load(int n, int bytes, Copies copies) const {
    const int stage = n % kStages;
    if (n >= kStages) barrier_wait(empty + 8 * stage, (n / kStages - 1) % 2);
    barrier_expect(full + 8 * stage, bytes);
    copies(stages + stage * kStageBytes, statistics + stage * kStatisticsBytes, full + 8 * stage);
  }
  __device__ __forceinline__ void wait(int n) const {
    barrier_wait(full + 8 * (n % kStages), n / kStages % 2);
  }
  __device__ __forceinline__ void release(int n) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(empty + 8 * (n % kStages));
  }
};

__device__ __forceinline__ float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
}

// Gradients of rotated rows back to before the rotation: components c and c + 8, which one thread
// holds as column groups 0 and 1. `first`: the position of the warpgroup's row 0.
__device__ __forceinline__ void turn_back(float (&d)[32], const Problem& problem, int first) {
  if (!problem.cos) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = min(first + 16 * warp + lane / 4 + 8 * i, problem.length - 1);
    const int at = row * (kTurnedRotary / 2) + 2 * (lane % 4);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float c = problem.cos[at + e], s = problem.sin[at + e];
      const float low = d[2 * i + e], high = d[4 + 2 * i + e];
      d[2 * i + e] = low * c + high * s;
      d[4 + 2 * i + e] = high * c - low * s;
    }
  }
}

#endif

__global__ void __launch_bounds__(kHopperThreads, 1)
    by_keys(const __grid_constant__ Problem problem) {
#ifdef TESSERA_WGMMA
  __shared__ std::uint64_t barriers[1 + 2 * kStages];
  char* shared = aligned_shared();
  const std::uint32_t keys = shared_address(shared), values = keys + kBlockRows * kTileRowBytes;
  Pipeline pipeline;
  pipeline.stages = keys + kResidentBytes;
  pipeline.statistics = pipeline.stages + kStages * kStageBytes;
  const auto* statistics =
      reinterpret_cast<const float*>(shared + kResidentBytes + kStages * kStageBytes);

  const int pair = static_cast<int>(blockIdx.x);
  const int window = pair / problem.heads, head = pair % problem.heads;
  const int first_tile = static_cast<int>(blockIdx.y) * kGroups;
  const int tiles = (problem.length + kRows - 1) / kRows;
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  constexpr float kScale2 = kHopperScale * kLog2E;

  pipeline.start(shared_address(barriers));
  const auto load = [&](int n) {
    if (first_tile + n >= tiles) return;
    const int tile = first_tile + n;
    pipeline.load(
        n, kStageBytes + kStatisticsBytes,
        [&](std::uint32_t stage, std::uint32_t numbers, std::uint32_t barrier) {
          copy_box(stage, &problem.qkv, tile * kRows, 3 * head, window, barrier);
          copy_box(stage + kTileBytes, &problem.dout, tile * kRows, head, window, barrier);
          copy_bytes(
              numbers,
              problem.statistics + (static_cast<std::int64_t>(pair) * tiles + tile) * kStatistics,
              kStatisticsBytes, barrier);
        });
  };
  if (threadIdx.x == 0) {
    barrier_expect(pipeline.resident, kResidentBytes);
    for (int g = 0; g < kGroups; ++g) {
      const int row = (first_tile + g) * kRows;  // boxes beyond the window arrive as zeros
      copy_box(keys + g * kTileBytes, &problem.qkv, row, 3 * head + 1, window, pipeline.resident);
      copy_box(values + g * kTileBytes, &problem.qkv, row, 3 * head + 2, window, pipeline.resident);
    }
    for (int n = 0; n < kAhead; ++n) load(n);
  }
  __syncwarp();
  barrier_wait(pipeline.resident, 0);

  const int own_tile = first_tile + group;  // of the warpgroup's keys
  const bool active = own_tile < tiles;
  const std::uint32_t own_keys = keys + group * kTileBytes,
                      own_values = values + group * kTileBytes;
  float dk[32], dv[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) dk[i] = dv[i] = 0.0f;

  for (int n = 0; first_tile + n < tiles; ++n) {
    if (threadIdx.x == 0) load(n + kAhead);
    __syncwarp();
    pipeline.wait(n);
    const int tile = first_tile + n;
    if (!active || tile < own_tile) {
      pipeline.release(n);
      continue;
    }
    const int stage = n % kStages;
    const std::uint32_t queries = pipeline.stages + stage * kStageBytes;
    const std::uint32_t douts = queries + kTileBytes;
    const auto* row_lse = reinterpret_cast<const float2*>(statistics + stage * kStatistics);
    const float2* row_delta = row_lse + kRows / 2;
    float s[32], dp[32];
    std::uint32_t fragments[16], ds_fragments[16];
    products_begin();
    product(s, own_keys, queries);
    products_commit();
    product(dp, own_values, douts);
    products_commit();
    products_wait<1>();
    settle(s);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 l = row_lse[4 * j + lane % 4];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        s[4 * j + e] = power_of_two(s[4 * j + e] * kScale2 - (e % 2 == 0 ? l.x : l.y));
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
    pipeline.release(n);
  }
  if (!active) return;
  const int row = own_tile * kRows;
  const std::int64_t stride = std::int64_t{3} * problem.heads * kHead;
  __nv_bfloat16* to = problem.dqkv +
                      (static_cast<std::int64_t>(window) * problem.length + row) * stride +
                      (3 * head + 1) * kHead;
  turn_back(dk, problem, row);
  store(dk, kHopperScale, to, stride, problem.length - row);
  store(dv, 1.0f, to + kHead, stride, problem.length - row);
#endif
}

__global__ void __launch_bounds__(kHopperThreads, 1)
    by_queries(const __grid_constant__ Problem problem) {
#ifdef TESSERA_WGMMA
  __shared__ std::uint64_t barriers[1 + 2 * kStages];
  char* shared = aligned_shared();
  const std::uint32_t queries = shared_address(shared);
  const std::uint32_t douts = queries + kBlockRows * kTileRowBytes;
  Pipeline pipeline;
  pipeline.stages = queries + kResidentBytes;
  pipeline.statistics = 0;

  // Later queries see more keys: they go first.
  const int first_tile = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kGroups;
  const int pair = static_cast<int>(blockIdx.x);
  const int window = pair / problem.heads, head = pair % problem.heads;
  const int all = (problem.length + kRows - 1) / kRows;
  const int tiles = min(all, first_tile + kGroups);  // key tiles that any row sees
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  constexpr float kScale2 = kHopperScale * kLog2E;

  pipeline.start(shared_address(barriers));
  const auto load = [&](int n) {
    if (n >= tiles) return;
    pipeline.load(n, kStageBytes, [&](std::uint32_t stage, std::uint32_t, std::uint32_t barrier) {
      copy_box(stage, &problem.qkv, n * kRows, 3 * head + 1, window, barrier);
      copy_box(stage + kTileBytes, &problem.qkv, n * kRows, 3 * head + 2, window, barrier);
    });
  };
  if (threadIdx.x == 0) {
    barrier_expect(pipeline.resident, kResidentBytes);
    for (int g = 0; g < kGroups; ++g) {
      const int row = (first_tile + g) * kRows;
      copy_box(queries + g * kTileBytes, &problem.qkv, row, 3 * head, window, pipeline.resident);
      copy_box(douts + g * kTileBytes, &problem.dout, row, head, window, pipeline.resident);
    }
    for (int n = 0; n < kAhead; ++n) load(n);
  }
  __syncwarp();

  const int own_tile = first_tile + group;
  const bool active = own_tile < all;
  // This thread's two rows.
  float lse[2], delta[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float* from =
        problem.statistics +
        (static_cast<std::int64_t>(pair) * all + min(own_tile, all - 1)) * kStatistics + 16 * warp +
        lane / 4 + 8 * i;
    lse[i] = from[0];
    delta[i] = from[kRows];
  }
  const std::uint32_t own_queries = queries + group * kTileBytes;
  const std::uint32_t own_douts = douts + group * kTileBytes;
  float dq[32];
#pragma unroll
  for (int i = 0; i < 32; ++i) dq[i] = 0.0f;
  barrier_wait(pipeline.resident, 0);

  for (int n = 0; n < tiles; ++n) {
    if (threadIdx.x == 0) load(n + kAhead);
    __syncwarp();
    pipeline.wait(n);
    if (!active || n > own_tile) {
      pipeline.release(n);
      continue;
    }
    const std::uint32_t keys = pipeline.stages + n % kStages * kStageBytes;
    const std::uint32_t values = keys + kTileBytes;
    float s[32], dp[32];
    std::uint32_t fragments[16];
    products_begin();
    product(s, own_queries, keys);
    products_commit();
    product(dp, own_douts, values);
    products_commit();
    products_wait<1>();
    settle(s);
#pragma unroll
    for (int i = 0; i < 32; ++i) s[i] = power_of_two(s[i] * kScale2 - lse[i / 2 % 2]);
    if (n == own_tile) {
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
    pipeline.release(n);
  }
  if (!active) return;
  const int row = own_tile * kRows;
  const std::int64_t stride = std::int64_t{3} * problem.heads * kHead;
  turn_back(dq, problem, row);
  store(dq, kHopperScale,
        problem.dqkv + (static_cast<std::int64_t>(window) * problem.length + row) * stride +
            3 * head * kHead,
        stride, problem.length - row);
#endif
}

// Statistics of every row and head, eight lanes each: lse in powers of two (infinite where no row
// is, so that its p are 0) and D = dout . out.
__global__ void row_statistics(const __nv_bfloat16* __restrict__ out,
                               const __nv_bfloat16* __restrict__ dout,
                               const float* __restrict__ lse, float* __restrict__ statistics,
                               int length, int padded, int heads, std::int64_t count) {
  const std::int64_t item = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 8;
  const int part = static_cast<int>(threadIdx.x) % 8;
  const std::int64_t row = item / heads, head = item % heads, window = row / padded;
  const int i = static_cast<int>(row % padded);
  const bool inside = item < count && i < length;
  float sum = 0.0f;
  if (inside) {
    const std::int64_t at = ((window * length + i) * heads + head) * kHead;
    const uint4 a = reinterpret_cast<const uint4*>(out + at)[part];
    const uint4 b = reinterpret_cast<const uint4*>(dout + at)[part];
    const std::uint32_t x[4] = {a.x, a.y, a.z, a.w}, y[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      sum += __uint_as_float(x[e] << 16) * __uint_as_float(y[e] << 16);
      sum += __uint_as_float(x[e] & 0xffff0000u) * __uint_as_float(y[e] & 0xffff0000u);
    }
  }
#pragma unroll
  for (int offset = 4; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  if (item >= count || part != 0) return;
  const std::int64_t pair = window * heads + head;
  float* to = statistics + (pair * (padded / kRows) + i / kRows) * kStatistics + i % kRows;
  to[0] = inside ? lse[pair * length + i] * kLog2E : __int_as_float(0x7f800000);
  to[kRows] = sum;
}

std::int64_t padded_length(std::int64_t length) {
  return (length + kRows - 1) / kRows * kRows;
}

}  // namespace

bool hopper_backward_ready() {
  static const bool ready =
      hopper_kernel_ready(reinterpret_cast<const void*>(by_keys), kSharedBytes) &&
      hopper_kernel_ready(reinterpret_cast<const void*>(by_queries), kSharedBytes);
  return ready;
}

bool hopper_attention_turns_back(const WindowAttentionShape<bf16>& shape) {
  return shape.rotary == kTurnedRotary;
}

std::int64_t hopper_attention_workspace(const WindowAttentionShape<bf16>& shape) {
  return shape.windows * shape.heads * padded_length(shape.length) * 2 *
         static_cast<std::int64_t>(sizeof(float));
}

void hopper_attention_backward(const WindowAttentionBackward<bf16>& args, std::byte* workspace,
                               cudaStream_t stream) {
  const WindowAttentionShape<bf16>& s = args.shape;
  if (s.windows * s.length * s.heads == 0) return;
  const std::int64_t padded = padded_length(s.length), count = s.windows * padded * s.heads;
  auto* statistics = reinterpret_cast<float*>(workspace);
  const int length = static_cast<int>(s.length), heads = static_cast<int>(s.heads);
  row_statistics<<<static_cast<unsigned>((count * 8 + kBlockThreads - 1) / kBlockThreads),
                   kBlockThreads, 0, stream>>>(reinterpret_cast<const __nv_bfloat16*>(args.out),
                                               reinterpret_cast<const __nv_bfloat16*>(args.dout),
                                               args.lse, statistics, length,
                                               static_cast<int>(padded), heads, count);
  check_launch("attention backward, row statistics");
  const bool turn = hopper_attention_turns_back(s);
  const std::int64_t width = s.heads * kHead;
  const Problem problem{
      tile_map({args.qkv, s.length, 3 * s.heads, s.windows, 3 * width, kHead, s.length * 3 * width},
               kRows),
      tile_map({args.dout, s.length, s.heads, s.windows, width, kHead, s.length * width}, kRows),
      statistics,
      turn ? s.cos : nullptr,
      turn ? s.sin : nullptr,
      reinterpret_cast<__nv_bfloat16*>(args.dqkv),
      length,
      heads};
  const dim3 grid(static_cast<unsigned>(s.windows * s.heads),
                  static_cast<unsigned>((length + kBlockRows - 1) / kBlockRows));
  by_keys<<<grid, kHopperThreads, kSharedBytes, stream>>>(problem);
  check_launch("attention backward by keys");
  by_queries<<<grid, kHopperThreads, kSharedBytes, stream>>>(problem);
  check_launch("attention backward by queries");
}

}  // namespace tessera::kernels::cuda
