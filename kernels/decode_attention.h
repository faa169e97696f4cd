// Attention of one new row a sequence over the sequence's cache, rotary positions included.
//
// Sequence b has position p = positions[b] (or `position` where positions is null). q and k of its
// row of qkv [sequences, heads, 3, d] (rows qkv_row elements apart) are rotated by p (the equation
// and the tables of kernels/rotary.h), k (rounded to T) and v are stored at row p of its cache, and
//   out[b, h] = softmax_j(d^-1/2 q . keys[b, j, h], j <= p) values[b, j, h].
// The cache of sequence b starts at keys + b * cache_sequence, its rows [heads, d] are cache_row
// elements apart, `longest` of them at most. Rows beyond p are never used, whatever they hold. qkv
// is not changed. out [sequences, heads, d].
//
// CUDA: a context is cut into parts by `longest` and sequences * heads, whose partial results wait
// in Queue::workspace; a result does not depend on the other sequences' contents, but its rounding
// may on their number.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct DecodeAttention {
  std::int64_t sequences = 0, heads = 0, head_size = 0;
  std::int64_t rotary = 0;                      // rotated components of a head, even
  std::int64_t longest = 0;                     // rows of a sequence's cache
  const Wide<T>*cos = nullptr, *sin = nullptr;  // [longest, rotary / 2]
  const std::int32_t* positions = nullptr;      // [sequences] in the queue's memory, or null
  std::int64_t position = 0;
  const T* qkv = nullptr;
  std::int64_t qkv_row = 0;
  T *keys = nullptr, *values = nullptr;
  std::int64_t cache_sequence = 0, cache_row = 0;
  T* out = nullptr;
};

namespace cpu {
template <typename T>
void decode_attention(const DecodeAttention<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void decode_attention(const Queue& queue, const DecodeAttention<T>& args);
}  // namespace cuda

template <typename T>
void decode_attention(const Queue& queue, const DecodeAttention<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::decode_attention(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::decode_attention(args);
  refuse(queue, "decode_attention");
}

}  // namespace tessera::kernels
