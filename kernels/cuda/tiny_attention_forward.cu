// Tiny windows forward: q, k, v are read once by sixteen bytes a thread, rotated, attended and
// written, all in registers, at memory speed.
#include "kernels/cuda/tiny_attention.cuh"

namespace tessera::kernels::cuda {
namespace {

// Blocks a processor, which bounds the registers.
constexpr int resident(int length) {
  return length <= 2 ? 8 : length == 3 ? 6 : length <= 5 ? 4 : length <= 7 ? 3 : 2;
}

template <int length, int lanes, bool masked>
__global__ void __launch_bounds__(kTinyThreads, resident(length))
    forward(const WindowAttentionForward<bf16> a, float scale) {
  using Place = TinyPlace<length, lanes>;
  const Place at(a.shape);
  const bf16* from = a.qkv + at.qkv_offset();
  uint4 q[length], k[length], v[length];
  load_rows(q, from, at.row);
  load_rows(k, from + Place::kHead, at.row);
  load_rows(v, from + 2 * Place::kHead, at.row);
  __syncwarp();
  rotate_rows(q, k, at, a.shape, from);
  float p[length * (length + 1) / 2], lse[length];
  unsigned kept = 0;
  if constexpr (masked) kept = kept_keys<length>(a.shape.key_mask, at.window());
  probabilities<length, lanes, masked>(q, k, p, lse, scale, kept);
  bf16* to = a.out + at.out_offset();
#pragma unroll
  for (int i = 0; i < length; ++i) {
    float out[kTinyPart] = {};
#pragma unroll
    for (int j = 0; j <= i; ++j) {
      float x[kTinyPart];
      unpack<bf16>(v[j], x);
#pragma unroll
      for (int e = 0; e < kTinyPart; ++e) out[e] = fmaf(p[tiny_entry(i, j)], x[e], out[e]);
    }
    store_part(to + i * at.out_row, out, at.inside());
  }
  if (!a.lse || !at.inside()) return;
  // Lane n of the group writes rows n, n + lanes, ...
  const int lane = at.part / kTinyPart;
  float* lse_to = a.lse + static_cast<std::int64_t>(at.first + at.mine) * length;
#pragma unroll
  for (int begin = 0; begin < length; begin += lanes) {
    float mine = 0.0f;
#pragma unroll
    for (int i = begin; i < length && i < begin + lanes; ++i)
      if (lane == i - begin) mine = lse[i];
    if (begin + lane < length) lse_to[begin + lane] = mine;
  }
}

}  // namespace

bool tiny_attention_takes(const WindowAttentionShape<bf16>& s) {
  constexpr std::int64_t kMostPairs = std::int64_t{1} << 30;
  return s.length <= kTinyLength &&
         (s.head_size == 32 || s.head_size == 64 || s.head_size == 128) &&
         s.rotary / 2 % kTinyPart == 0 && s.windows * s.heads <= kMostPairs;
}

void tiny_attention_forward(const WindowAttentionForward<bf16>& args, cudaStream_t stream) {
  if (args.shape.windows * args.shape.heads == 0) return;
  tiny_dispatch(args.shape, [&](auto length, auto lanes, auto masked) {
    forward<decltype(length)::value, decltype(lanes)::value, decltype(masked)::value>
        <<<static_cast<unsigned>(tiny_blocks(args.shape)), kTinyThreads, 0, stream>>>(
            args, tiny_scale(args.shape));
  });
  check_launch("tiny attention forward");
}

}  // namespace tessera::kernels::cuda
