// Training attention on the CPU: the forward leaves q and k rotated in place.
#include "kernels/window_attention.h"

#include "kernels/attention.h"
#include "kernels/cpu/column_sums.h"
#include "kernels/rotary.h"

namespace tessera::kernels::cpu {
namespace {

template <typename T>
void rotate(const WindowAttentionShape<T>& s, T* qkv, bool backward) {
  Rotary<T> r;
  r.rows = s.windows * s.length;
  r.heads = s.heads;
  r.head_size = s.head_size;
  r.rotary = s.rotary;
  r.length = s.length;
  r.cos = s.cos;
  r.sin = s.sin;
  r.qkv = qkv;
  r.backward = backward;
  rotary(r);
}

template <typename T>
AttentionShape shape_of(const WindowAttentionShape<T>& s) {
  return fused_attention_shape(s.windows, s.length, s.heads, s.head_size);
}

}  // namespace

template <typename T>
void window_attention_forward(const WindowAttentionForward<T>& a) {
  if (!a.again) rotate(a.shape, a.qkv, false);
  AttentionForward<T> f;
  f.shape = shape_of(a.shape);
  f.q = a.qkv;
  f.k = f.q + a.shape.head_size;
  f.v = f.k + a.shape.head_size;
  f.key_mask = a.shape.key_mask;
  f.out = a.out;
  f.lse = a.lse;
  attention_forward(f);
}

template <typename T>
void window_attention_backward(const WindowAttentionBackward<T>& a) {
  AttentionBackward<T> b;
  b.shape = shape_of(a.shape);
  b.q = a.qkv;
  b.k = b.q + a.shape.head_size;
  b.v = b.k + a.shape.head_size;
  b.key_mask = a.shape.key_mask;
  b.out = a.out;
  b.lse = a.lse;
  b.dout = a.dout;
  b.dq = a.dqkv;
  b.dk = b.dq + a.shape.head_size;
  b.dv = b.dk + a.shape.head_size;
  attention_backward(b);
  rotate(a.shape, a.dqkv, true);
  const std::int64_t columns = 3 * a.shape.heads * a.shape.head_size;
  if (a.dbias) add_rows(a.shape.windows * a.shape.length, columns, columns, a.dqkv, a.dbias);
}

template void window_attention_forward(const WindowAttentionForward<float>&);
template void window_attention_forward(const WindowAttentionForward<double>&);
template void window_attention_backward(const WindowAttentionBackward<float>&);
template void window_attention_backward(const WindowAttentionBackward<double>&);

}  // namespace tessera::kernels::cpu
