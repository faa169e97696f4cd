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
#include "kernels/cuda/hopper_attention.h"
#include "kernels/cuda/hopper_backward.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"

namespace tessera::kernels::cuda {
namespace {

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
std::int64_t statistics_bytes(const WindowAttentionShape<bf16>& shape) {
  return shape.windows * shape.heads * padded_length(shape.length) * 2 *
         static_cast<std::int64_t>(sizeof(float));
}

}  // namespace

bool hopper_backward_ready() {
  static const bool ready = hopper_by_keys_ready() && hopper_by_queries_ready();
  return ready;
}

bool hopper_attention_turns_back(const WindowAttentionShape<bf16>& shape) {
  return shape.rotary == kTurnedRotary;
}

// Statistics, then the parts of the bias gradient.
std::int64_t hopper_attention_workspace(const WindowAttentionShape<bf16>& shape) {
  return statistics_bytes(shape) + shape.windows * padded_length(shape.length) / kRows * 3 *
                                       shape.heads * kHead *
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
  auto* bias_parts =
      turn && args.dbias ? reinterpret_cast<float*>(workspace + statistics_bytes(s)) : nullptr;
  const HopperBackward problem{
      tile_map({args.qkv, s.length, 3 * s.heads, s.windows, 3 * width, kHead, s.length * 3 * width},
               kRows),
      tile_map({args.dout, s.length, s.heads, s.windows, width, kHead, s.length * width}, kRows),
      statistics,
      turn ? s.cos : nullptr,
      turn ? s.sin : nullptr,
      reinterpret_cast<__nv_bfloat16*>(args.dqkv),
      bias_parts,
      length,
      heads};
  const dim3 grid(static_cast<unsigned>(s.windows * s.heads),
                  static_cast<unsigned>((length + kBlockRows - 1) / kBlockRows));
  hopper_by_keys(problem, grid, stream);
  hopper_by_queries(problem, grid, stream);
  ColumnOutputs outputs;
  if (bias_parts) outputs.add(args.dbias, 0);
  launch_finish_columns(bias_parts, static_cast<int>(s.windows * padded / kRows), 1, 3 * width,
                        outputs, stream);
}

}  // namespace tessera::kernels::cuda
