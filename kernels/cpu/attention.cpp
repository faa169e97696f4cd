// Attention: the shape of training, and the choice of path by a window's length.
#include "kernels/attention.h"

#include "kernels/cpu/attention_paths.h"

namespace tessera::kernels {

AttentionShape fused_attention_shape(std::int64_t windows, std::int64_t length, std::int64_t heads,
                                     std::int64_t head_size) {
  AttentionShape s;
  s.windows = windows, s.heads = heads, s.head_size = head_size;
  s.queries = length, s.keys = length;
  s.q_row = s.kv_row = heads * 3 * head_size;
  s.q_window = s.kv_window = length * s.q_row;
  s.q_head = s.kv_head = 3 * head_size;
  return s;
}

namespace cpu {
namespace {

constexpr std::int64_t kFewQueries = 4;

void check(const AttentionShape& s) {
  TESSERA_CHECK(s.windows >= 0 && s.heads >= 0 && s.head_size > 0);
  TESSERA_CHECK(s.queries >= 0 && s.queries <= s.keys);
}

// Tiles pay where keys are read again by many queries.
bool use_rows(const AttentionShape& s) {
  return s.keys <= kTinyWindow || s.queries <= kFewQueries;
}

}  // namespace

template <typename T>
void attention_forward(const AttentionForward<T>& a) {
  check(a.shape);
  if (attention_is_tiny<T>(a.shape))
    attention_forward_tiny(a);
  else if (use_rows(a.shape))
    attention_forward_rows(a);
  else
    attention_forward_tiles(a);
}

template <typename T>
void attention_backward(const AttentionBackward<T>& a) {
  check(a.shape);
  if (attention_is_tiny<T>(a.shape))
    attention_backward_tiny(a);
  else if (use_rows(a.shape))
    attention_backward_rows(a);
  else
    attention_backward_tiles(a);
}

template void attention_forward(const AttentionForward<float>&);
template void attention_forward(const AttentionForward<double>&);
template void attention_backward(const AttentionBackward<float>&);
template void attention_backward(const AttentionBackward<double>&);

}  // namespace cpu
}  // namespace tessera::kernels
