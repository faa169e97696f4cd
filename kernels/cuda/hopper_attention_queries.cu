// dq of one block of queries: loop over key tiles (hopper_attention_backward.cu has the equations).
// A warpgroup starts the scores of the next tile before the exponentials of the present one.
#include "kernels/cuda/hopper_backward.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::kernels::cuda {
namespace {

__global__ void __launch_bounds__(kHopperThreads, 1)
    by_queries(const __grid_constant__ HopperBackward problem) {
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

  const auto keys_of = [&](int n) { return pipeline.stages + n % kStages * kStageBytes; };
  const auto advance = [&](int n) {
    if (threadIdx.x == 0) load(n + kAhead);
    __syncwarp();
  };
  // Scores of a tile that have arrived, to the tile's share of dq; `diagonal` is the last.
  float s[32], next[32], dp[32];
  std::uint32_t fragments[16];
  const auto probabilities = [&](bool diagonal) {
#pragma unroll
    for (int i = 0; i < 32; ++i) s[i] = power_of_two(s[i] * kScale2 - lse[i / 2 % 2]);
    if (!diagonal) return;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int query = 16 * warp + lane / 4 + 8 * (i / 2 % 2);
      const int key = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
      if (key > query) s[i] = 0.0f;
    }
  };
  const auto slopes = [&] {
#pragma unroll
    for (int i = 0; i < 32; ++i) dp[i] = s[i] * (dp[i] - delta[i / 2 % 2]);
    to_fragments(dp, fragments);
  };
  const int last = active ? own_tile : -1;
  if (active) {
    pipeline.wait(0);
    products_begin();
    product(s, own_queries, keys_of(0));
    products_commit();
    products_wait<0>();
    settle(s);
  }
  // The next tile's scores are computed under this one's exponentials.
  for (int n = 0; n < last; ++n) {
    advance(n);
    pipeline.wait(n + 1);
    products_begin();
    product(dp, own_douts, keys_of(n) + kTileBytes);
    products_commit();
    product(next, own_queries, keys_of(n + 1));
    products_commit();
    probabilities(false);
    products_wait<1>();
    settle(dp);
    slopes();
    products_begin();
    fragment_product(dq, fragments, keys_of(n));
    products_commit();
    products_wait<0>();
    settle(next);
    settle(dq);
    pipeline.release(n);
#pragma unroll
    for (int i = 0; i < 32; ++i) s[i] = next[i];
  }
  if (active) {
    advance(last);
    products_begin();
    product(dp, own_douts, keys_of(last) + kTileBytes);
    products_commit();
    probabilities(true);
    products_wait<0>();
    settle(dp);
    slopes();
    products_begin();
    fragment_product(dq, fragments, keys_of(last));
    products_commit();
    products_wait<0>();
    settle(dq);
    pipeline.release(last);
  }
  for (int n = last + 1; n < tiles; ++n) {
    advance(n);
    pipeline.wait(n);
    pipeline.release(n);
  }
  if (!active) return;
  const int row = own_tile * kRows;
  const std::int64_t stride = std::int64_t{3} * problem.heads * kHead;
  turn_back(dq, problem, row);
  sum_rows(
      dq, kHopperScale, problem, pair, own_tile, 0,
      reinterpret_cast<float*>(shared + group * kTileBytes));  // own queries: not read any more
  store(dq, kHopperScale,
        problem.dqkv + (static_cast<std::int64_t>(window) * problem.length + row) * stride +
            3 * head * kHead,
        stride, problem.length - row);
#endif
}

}  // namespace

bool hopper_by_queries_ready() {
  static const bool ready =
      hopper_kernel_ready(reinterpret_cast<const void*>(by_queries), kSharedBytes);
  return ready;
}

void hopper_by_queries(const HopperBackward& problem, dim3 grid, cudaStream_t stream) {
  by_queries<<<grid, kHopperThreads, kSharedBytes, stream>>>(problem);
  check_launch("attention backward by queries");
}

}  // namespace tessera::kernels::cuda
