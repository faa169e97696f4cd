// Tiny windows backward: q, k, v and dout are read once, probabilities computed again in registers,
// and dq, dk, dv written once, turned back to before the rotation. D_i = sum_j p_ij dp_ij, so that
// neither out nor lse is read. A thread stays with its head from window to window and keeps the
// bias gradient of its components in its own words of shared memory.
#include <numeric>

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tiny_attention.cuh"

namespace tessera::kernels::cuda {
namespace {

// Blocks a processor, which bounds the registers.
constexpr int resident(int length) {
  return length == 1 ? 6 : length == 2 ? 5 : length == 3 ? 4 : length <= 5 ? 3 : 2;
}

// This thread's sums of dq, dk, dv's components over rows and windows.
struct TinySums {
  float4* own;  // every kTinyThreads-th

  __device__ __forceinline__ void clear() const {
#pragma unroll
    for (int i = 0; i < 6; ++i) own[i * kTinyThreads] = make_float4(0, 0, 0, 0);
  }
  __device__ __forceinline__ void add(int which, const float (&x)[kTinyPart]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float4& sum = own[(2 * which + i) * kTinyThreads];
      sum = make_float4(sum.x + x[4 * i], sum.y + x[4 * i + 1], sum.z + x[4 * i + 2],
                        sum.w + x[4 * i + 3]);
    }
  }
  // to: this thread's components of dq's; those of dk and dv follow by `stride`.
  __device__ __forceinline__ void write(float* to, int stride) const {
#pragma unroll
    for (int i = 0; i < 6; ++i)
      reinterpret_cast<float4*>(to + i / 2 * stride)[i % 2] = own[i * kTinyThreads];
  }
};

// sum += x, where rows are added up for the bias.
__device__ __forceinline__ void add_to(float (&sum)[kTinyPart], const float (&x)[kTinyPart]) {
#pragma unroll
  for (int e = 0; e < kTinyPart; ++e) sum[e] += x[e];
}
// sum += factor row.
__device__ __forceinline__ void add_scaled(float (&sum)[kTinyPart], float factor,
                                           const uint4& row) {
  float x[kTinyPart];
  unpack<bf16>(row, x);
#pragma unroll
  for (int e = 0; e < kTinyPart; ++e) sum[e] = fmaf(factor, x[e], sum[e]);
}

// partial [group / heads][heads, 3, d] or null; `groups` of lanes in the grid, a multiple of heads.
template <int length, int lanes, bool masked>
__global__ void __launch_bounds__(kTinyThreads, resident(length))
    backward(const WindowAttentionBackward<bf16> a, float scale, unsigned groups,
             float* __restrict__ partial) {
  using Place = TinyPlace<length, lanes>;
  constexpr int kHead = Place::kHead, kEntries = length * (length + 1) / 2;
  __shared__ float4 shared[6 * kTinyThreads];
  const TinySums sums{shared + threadIdx.x};
  sums.clear();
  Place at(a.shape);
  const unsigned group = at.first + at.mine;
  const int warp_lane = static_cast<int>(threadIdx.x % 32);
  const int partner_lane =
      at.partner < 0 ? warp_lane : warp_lane + (at.partner - at.part) / kTinyPart;
  for (; at.first < at.pairs; at.first += groups) {
    at.half = fresh(at.half);
    at.row = fresh(at.row);
    const std::int64_t offset = at.qkv_offset();
    uint4 q[length], k[length], dout[length];
    float p[kEntries], ds[kEntries];
    load_rows(q, a.qkv + offset, at.row);
    load_rows(k, a.qkv + offset + kHead, at.row);
    load_rows(dout, a.dout + at.out_offset(), at.out_row);
    {
      uint4 v[length];
      load_rows(v, a.qkv + offset + 2 * kHead, at.row);
      __syncwarp();
      rotate_rows(q, k, at, a.shape, a.qkv + offset);
      float lse[length];
      unsigned kept = 0;
      if constexpr (masked) kept = kept_keys<length>(a.shape.key_mask, at.window());
      probabilities<length, lanes, masked>(q, k, p, lse, scale, kept);
      keep_packed(v), keep_packed(dout);
#pragma unroll
      for (int i = 0; i < length; ++i)
#pragma unroll
        for (int j = 0; j <= i; ++j) ds[tiny_entry(i, j)] = dot(dout[i], v[j]);
    }
    sum_over_lanes<lanes>(ds);
    keep_packed(q), keep_packed(k), keep_packed(dout);
    const bool inside = at.inside(), add = inside && partial != nullptr;
    bf16* to = a.dqkv + offset;
    const int row = fresh(at.row);
    {
      float bias[kTinyPart] = {};
#pragma unroll
      for (int j = 0; j < length; ++j) {
        float dv[kTinyPart] = {};
#pragma unroll
        for (int i = j; i < length; ++i) add_scaled(dv, p[tiny_entry(i, j)], dout[i]);
        store_part(to + j * row + 2 * kHead, dv, inside);
        add_to(bias, dv);
      }
      if (add) sums.add(2, bias);
    }
#pragma unroll
    for (int i = 0; i < length; ++i) {
      float total = 0.0f;
#pragma unroll
      for (int j = 0; j <= i; ++j) total = fmaf(p[tiny_entry(i, j)], ds[tiny_entry(i, j)], total);
#pragma unroll
      for (int j = 0; j <= i; ++j) {
        const int n = tiny_entry(i, j);
        ds[n] = p[n] * (ds[n] - total) * scale;
      }
    }
    // dq (0), then dk (1): one after the other, to hold fewer registers.
    const auto finish = [&](int which, auto row_of) {
      float bias[kTinyPart] = {};
#pragma unroll
      for (int i = 0; i < length; ++i) {
        float x[kTinyPart] = {}, other[kTinyPart];
        row_of(i, x);
#pragma unroll
        for (int e = 0; e < kTinyPart; ++e) other[e] = __shfl_sync(0xffffffffu, x[e], partner_lane);
        if (at.partner >= 0) TinyTurn(at, a.shape, i, -1.0f).apply(x, other);
        store_part(to + i * row + which * kHead, x, inside);
        add_to(bias, x);
      }
      if (add) sums.add(which, bias);
    };
    finish(0, [&](int i, float(&dq)[kTinyPart]) {
#pragma unroll
      for (int j = 0; j <= i; ++j) add_scaled(dq, ds[tiny_entry(i, j)], k[j]);
    });
    finish(1, [&](int j, float(&dk)[kTinyPart]) {
#pragma unroll
      for (int i = j; i < length; ++i) add_scaled(dk, ds[tiny_entry(i, j)], q[i]);
    });
  }
  if (partial) sums.write(partial + group * std::int64_t{3 * kHead} + at.part, kHead);
}

// As many blocks as run at once on the largest devices, or as there is work for; rounded so that
// the groups are a multiple of the heads.
std::int64_t backward_blocks(const WindowAttentionShape<bf16>& s) {
  constexpr std::int64_t kProcessors = 132;
  const std::int64_t step = s.heads / std::gcd(s.heads, tiny_block_pairs(s));
  const std::int64_t most = kProcessors * resident(static_cast<int>(s.length));
  const std::int64_t needed = tiny_blocks(s);
  return needed <= most ? (needed + step - 1) / step * step : std::max(step, most / step * step);
}

}  // namespace

std::int64_t tiny_attention_workspace(const WindowAttentionShape<bf16>& shape) {
  return backward_blocks(shape) * kTinyThreads * 3 * kTinyPart *
         static_cast<std::int64_t>(sizeof(float));
}

void tiny_attention_backward(const WindowAttentionBackward<bf16>& args, std::byte* workspace,
                             cudaStream_t stream) {
  const WindowAttentionShape<bf16>& s = args.shape;
  if (s.windows * s.heads == 0) return;
  const std::int64_t blocks = backward_blocks(s), groups = blocks * tiny_block_pairs(s);
  auto* partial = args.dbias ? reinterpret_cast<float*>(workspace) : nullptr;
  tiny_dispatch(s, [&](auto length, auto lanes, auto masked) {
    backward<decltype(length)::value, decltype(lanes)::value, decltype(masked)::value>
        <<<static_cast<unsigned>(blocks), kTinyThreads, 0, stream>>>(
            args, tiny_scale(s), static_cast<unsigned>(groups), partial);
  });
  check_launch("tiny attention backward");
  ColumnOutputs outputs;
  outputs.add(args.dbias, 0);
  launch_finish_columns(partial, static_cast<int>(groups / s.heads), 1, 3 * s.heads * s.head_size,
                        outputs, stream);
}

}  // namespace tessera::kernels::cuda
