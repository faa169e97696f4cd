// Tiny windows backward: q, k, v and dout are read once, probabilities computed again in registers,
// and dq, dk, dv written once, turned back to before the rotation. D_i = sum_j p_ij dp_ij, so that
// neither out nor lse is read.
#include "kernels/cuda/tiny_attention.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 128;

template <int length, int lanes>
__global__ void __launch_bounds__(kThreads)
    backward(const WindowAttentionBackward<bf16> a, float scale) {
  const TinyPlace<length, lanes> at(a.shape);
  const bf16* base = a.qkv + at.qkv;
  constexpr int kHead = TinyPlace<length, lanes>::kHead, kPairs = length * (length + 1) / 2;
  uint4 q[length], k[length], v[length], dout[length];
#pragma unroll
  for (int i = 0; i < length; ++i) {
    q[i] = load_rotated(at, a.shape, base + i * at.row, i);
    k[i] = load_rotated(at, a.shape, base + i * at.row + kHead, i);
    v[i] = load_raw(base + i * at.row + 2 * kHead);
    dout[i] = load_raw(a.dout + at.out + i * at.out_row);
  }
  float p[kPairs], ds[kPairs], lse[length];
  probabilities<length, lanes>(q, k, p, lse, scale);
#pragma unroll
  for (int i = 0; i < length; ++i) {
    float total = 0.0f;
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      const int n = i * (i + 1) / 2 + j;
      ds[n] = sum_over_lanes<lanes>(dot(dout[i], v[j]));
      total = fmaf(p[n], ds[n], total);
    }
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      const int n = i * (i + 1) / 2 + j;
      ds[n] = p[n] * (ds[n] - total) * scale;
    }
  }
  bf16* to = a.dqkv + at.qkv;
  const int warp_lane = static_cast<int>(threadIdx.x) % 32;
  const int partner_lane =
      at.partner < 0 ? warp_lane : warp_lane + (at.partner - at.part) / kTinyPart;
  // Turns a gradient back with the partner thread's and writes it. All threads take part.
  const auto finish = [&](float(&mine)[8], bf16* where, int position) {
    float other[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) other[e] = __shfl_sync(0xffffffffu, mine[e], partner_lane);
    if (at.partner >= 0) {
      const int angle = position * at.half + (at.low ? at.part : at.partner);
      turn(mine, other, a.shape.cos + angle, a.shape.sin + angle, at.low, -1.0f);
    }
    if (at.inside) store(where, mine);
  };
#pragma unroll
  for (int i = 0; i < length; ++i) {
    float dq[8] = {}, dk[8] = {}, dv[8] = {};
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      float x[8];
      unpack<bf16>(k[j], x);
#pragma unroll
      for (int e = 0; e < 8; ++e) dq[e] = fmaf(ds[i * (i + 1) / 2 + j], x[e], dq[e]);
    }
#pragma unroll
    for (int n = i; n < length; ++n) {
      float x[8], y[8];
      unpack<bf16>(q[n], x);
      unpack<bf16>(dout[n], y);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        dk[e] = fmaf(ds[n * (n + 1) / 2 + i], x[e], dk[e]);
        dv[e] = fmaf(p[n * (n + 1) / 2 + i], y[e], dv[e]);
      }
    }
    finish(dq, to + i * at.row, i);
    finish(dk, to + i * at.row + kHead, i);
    if (at.inside) store(to + i * at.row + 2 * kHead, dv);
  }
}

}  // namespace

void tiny_attention_backward(const WindowAttentionBackward<bf16>& args, cudaStream_t stream) {
  if (args.shape.windows * args.shape.heads == 0) return;
  tiny_dispatch(args.shape, [&](auto length, auto lanes) {
    backward<decltype(length)::value, decltype(lanes)::value>
        <<<tiny_blocks(args.shape, kThreads), kThreads, 0, stream>>>(args, tiny_scale(args.shape));
  });
  check_launch("tiny attention backward");
}

}  // namespace tessera::kernels::cuda
