// dk and dv of one block of keys: loop over query tiles (hopper_attention_backward.cu has the
// equations).
#include "kernels/cuda/hopper_backward.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::kernels::cuda {
namespace {

__global__ void __launch_bounds__(kHopperThreads, 1)
    by_keys(const __grid_constant__ HopperBackward problem) {
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
  auto* area =
      reinterpret_cast<float*>(shared + group * kTileBytes);  // own keys: not read any more
  sum_rows(dk, kHopperScale, problem, pair, own_tile, 1, area);
  sum_rows(dv, 1.0f, problem, pair, own_tile, 2, area);
  store(dk, kHopperScale, to, stride, problem.length - row);
  store(dv, 1.0f, to + kHead, stride, problem.length - row);
#endif
}

}  // namespace

bool hopper_by_keys_ready() {
  static const bool ready =
      hopper_kernel_ready(reinterpret_cast<const void*>(by_keys), kSharedBytes);
  return ready;
}

void hopper_by_keys(const HopperBackward& problem, dim3 grid, cudaStream_t stream) {
  by_keys<<<grid, kHopperThreads, kSharedBytes, stream>>>(problem);
  check_launch("attention backward by keys");
}

}  // namespace tessera::kernels::cuda
