// Forward of causal attention on Hopper's tensor cores, head size 64: S = Q K^T, online softmax in
// powers of two, O += P V, with P kept in registers.
//
// Three warpgroups of 64 queries share the key and value tiles that stream by. A warpgroup starts
// the scores of the next tile before the softmax of the present one, so that its exponentials run
// under its own products as well as under the other warpgroups'.
#include "kernels/cuda/hopper_attention.cuh"
#include "kernels/cuda/hopper_attention.h"
#include "kernels/cuda/launch.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kStages = 4;
constexpr int kStageBytes = 2 * kTileBytes;
constexpr int kSharedBytes = kBlockRows * kTileRowBytes + kStages * kStageBytes + 1024;

struct Problem {
  const __nv_bfloat16* qkv;
  __nv_bfloat16* out;
  float* lse;  // [windows, heads, length] or null
  int length, heads;
};

__global__ void __launch_bounds__(kHopperThreads, 1) forward(const Problem problem) {
#ifdef TESSERA_WGMMA
  char* shared = aligned_shared();
  const std::uint32_t queries = shared_address(shared);
  const std::uint32_t stages = queries + kBlockRows * kTileRowBytes;

  // Later queries see more keys: they go first.
  const int block = static_cast<int>(gridDim.y - 1 - blockIdx.y);
  const int pair = static_cast<int>(blockIdx.x), first_query = block * kBlockRows;
  const int length = problem.length, all = (length + kRows - 1) / kRows;
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const std::int64_t window = pair / problem.heads, head = pair % problem.heads;
  const std::int64_t stride = std::int64_t{3} * problem.heads * kHead;
  const std::int64_t out_stride = std::int64_t{problem.heads} * kHead;
  const __nv_bfloat16* q = problem.qkv + (window * length * problem.heads + head) * 3 * kHead;
  const __nv_bfloat16 *k = q + kHead, *v = q + 2 * kHead;
  constexpr float kScale2 = kHopperScale * kLog2E;

  const auto load_stage = [&](int tile) {
    const int row = tile * kRows;
    const std::uint32_t stage = stages + tile % kStages * kStageBytes;
    load_tile<kHopperThreads>(stage, k + row * stride, stride, kRows, length - row);
    load_tile<kHopperThreads>(stage + kTileBytes, v + row * stride, stride, kRows, length - row);
  };
  load_tile<kHopperThreads>(queries, q + first_query * stride, stride, kBlockRows,
                            length - first_query);
  const int own_tile = first_query / kRows + group;
  const bool active = own_tile < all;
  const int tiles = min(all, first_query / kRows + kGroups);
#pragma unroll
  for (int s = 0; s < 2; ++s) {
    if (s < tiles) load_stage(s);
    copies_commit();
  }
  const std::uint32_t own_queries = queries + group * kTileBytes;

  float o[32], s[32], next[32], most[2], total[2];
  std::uint32_t fragments[16];
#pragma unroll
  for (int i = 0; i < 32; ++i) o[i] = 0.0f;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    most[i] = __int_as_float(0xff800000);
    total[i] = 0.0f;
  }

  // Tiles up to tile + 1 have arrived (tile and tile + 1 were the last loads); the products with
  // tile
  // - 2, whose place is loaded next, are done.
  const auto advance = [&](int tile) {
    copies_wait<0>();
    publish_copies();
    __syncthreads();
    if (tile + 2 < tiles) load_stage(tile + 2);
    copies_commit();
  };
  const auto keys_of = [&](int tile) { return stages + tile % kStages * kStageBytes; };
  // From scores to probabilities, with the running maximum and sum of both rows.
  const auto softmax = [&] {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float high = most[r];
#pragma unroll
      for (int j = 0; j < 8; ++j) high = fmaxf(high, fmaxf(s[4 * j + 2 * r], s[4 * j + 2 * r + 1]));
      high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
      high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
      // The diagonal is never masked: `high` is finite from the first tile on.
      const float shrink = exp2f((most[r] - high) * kScale2);
      most[r] = high;
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& x = s[4 * j + 2 * r + c];
          x = exp2f(x * kScale2 - high * kScale2);
          sum += x;
          o[4 * j + 2 * r + c] *= shrink;
        }
      total[r] = total[r] * shrink + sum;
    }
    to_fragments(s, fragments);
  };

  if (!active) {
    for (int tile = 0; tile < tiles; ++tile) advance(tile);
    return;
  }
  advance(0);
  products_begin();
  product(s, own_queries, keys_of(0));
  products_commit();
  products_wait<0>();
  settle(s);
  for (int tile = 0; tile < own_tile; ++tile) {
    if (tile > 0) advance(tile);
    products_begin();
    product(next, own_queries, keys_of(tile + 1));
    products_commit();
    softmax();
    products_begin();
    fragment_product(o, fragments, keys_of(tile) + kTileBytes);
    products_commit();
    products_wait<0>();
    settle(next);
    settle(o);
#pragma unroll
    for (int i = 0; i < 32; ++i) s[i] = next[i];
  }
  if (own_tile > 0) advance(own_tile);
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int query = 16 * warp + lane / 4 + 8 * (i / 2 % 2);
    const int key = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
    if (key > query) s[i] = __int_as_float(0xff800000);
  }
  softmax();
  products_begin();
  fragment_product(o, fragments, keys_of(own_tile) + kTileBytes);
  products_commit();
  products_wait<0>();
  settle(o);
  for (int tile = own_tile + 1; tile < tiles; ++tile) advance(tile);
  const int row = first_query + group * kRows;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 1);
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 2);
    const int query = row + 16 * warp + lane / 4 + 8 * r;
    if (problem.lse && lane % 4 == 0 && query < length)
      problem.lse[static_cast<std::int64_t>(pair) * length + query] =
          (most[r] * kScale2 + log2f(total[r])) * (1.0f / kLog2E);
    const float inverse = 1.0f / total[r];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      o[4 * j + 2 * r] *= inverse;
      o[4 * j + 2 * r + 1] *= inverse;
    }
  }
  store(o, 1.0f, problem.out + (window * length * problem.heads + head) * kHead + row * out_stride,
        out_stride, length - row);
#endif
}

bool forward_ready() {
  static const bool ready =
      hopper_kernel_ready(reinterpret_cast<const void*>(forward), kSharedBytes);
  return ready;
}

}  // namespace

bool hopper_kernel_ready(const void* kernel, int shared_bytes) {
  cudaFuncAttributes attributes;
  int device = 0, major = 0, minor = 0;
  const bool ready =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
      major == 9 && minor == 0 && cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess &&
      attributes.binaryVersion == 90 &&
      attributes.ptxVersion >= 90 &&  // not older PTX, where it is empty
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes) ==
          cudaSuccess;
  (void)cudaGetLastError();
  return ready;
}

bool hopper_attention_takes(const WindowAttentionShape<bf16>& shape) {
  // Row offsets within a window are 32-bit, blocks of rows lie in grid.y.
  return shape.head_size == kHead && shape.length <= (1 << 20) &&
         shape.windows * shape.heads < (std::int64_t{1} << 31) && forward_ready() &&
         hopper_backward_ready();
}

void hopper_attention_forward(const WindowAttentionForward<bf16>& args, cudaStream_t stream) {
  const WindowAttentionShape<bf16>& s = args.shape;
  if (s.windows * s.length * s.heads == 0) return;
  const Problem problem{reinterpret_cast<const __nv_bfloat16*>(args.qkv),
                        reinterpret_cast<__nv_bfloat16*>(args.out), args.lse,
                        static_cast<int>(s.length), static_cast<int>(s.heads)};
  const dim3 grid(static_cast<unsigned>(s.windows * s.heads),
                  static_cast<unsigned>((s.length + kBlockRows - 1) / kBlockRows));
  forward<<<grid, kHopperThreads, kSharedBytes, stream>>>(problem);
  check_launch("attention forward");
}

}  // namespace tessera::kernels::cuda
