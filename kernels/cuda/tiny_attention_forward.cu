// Tiny windows forward: q, k, v are read once by sixteen bytes a thread, rotated, attended and
// written, all in registers, at memory speed.
#include "kernels/cuda/tiny_attention.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 128;

template <int length, int lanes>
__global__ void __launch_bounds__(kThreads)
    forward(const WindowAttentionForward<bf16> a, float scale) {
  const TinyPlace<length, lanes> at(a.shape);
  const bf16* base = a.qkv + at.qkv;
  constexpr int kHead = TinyPlace<length, lanes>::kHead;
  uint4 q[length], k[length], v[length];
#pragma unroll
  for (int i = 0; i < length; ++i) {
    q[i] = load_rotated(at, a.shape, base + i * at.row, i);
    k[i] = load_rotated(at, a.shape, base + i * at.row + kHead, i);
    v[i] = load_raw(base + i * at.row + 2 * kHead);
  }
  float p[length * (length + 1) / 2], lse[length];
  probabilities<length, lanes>(q, k, p, lse, scale);
  if (!at.inside) return;
#pragma unroll
  for (int i = 0; i < length; ++i) {
    float out[8] = {};
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      float x[8];
      unpack<bf16>(v[j], x);
#pragma unroll
      for (int e = 0; e < 8; ++e) out[e] = fmaf(p[i * (i + 1) / 2 + j], x[e], out[e]);
    }
    store(a.out + at.out + i * at.out_row, out);
    if (a.lse && at.part == 0) a.lse[at.pair * length + i] = lse[i];
  }
}

}  // namespace

bool tiny_attention_takes(const WindowAttentionShape<bf16>& s) {
  const std::int64_t half = s.rotary / 2;
  return s.length <= kTinyLength &&
         (s.head_size == 32 || s.head_size == 64 || s.head_size == 128) && half % kTinyPart == 0;
}

void tiny_attention_forward(const WindowAttentionForward<bf16>& args, cudaStream_t stream) {
  if (args.shape.windows * args.shape.heads == 0) return;
  tiny_dispatch(args.shape, [&](auto length, auto lanes) {
    forward<decltype(length)::value, decltype(lanes)::value>
        <<<tiny_blocks(args.shape, kThreads), kThreads, 0, stream>>>(args, tiny_scale(args.shape));
  });
  check_launch("tiny attention forward");
}

}  // namespace tessera::kernels::cuda
