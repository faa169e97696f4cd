// Token look-up: out[r] = table[ids[r]], and its backward, a sum over equal ids.
//
// forward:  out[r, :] = table[ids[r], :]             ids [rows], table [vocab, width]
// backward: dtable[ids[r], :] += dout[r, :]          r ascending for each id (deterministic)
// Rows of `out`/`dout` start every `stride` elements, so that the looked-up rows can be written
// into a wider matrix. The block embedder (lookup + concatenation: u_i = concat of the L_B token
// embeddings of block i) is this operation with width = D / L_B and stride = width: the
// concatenation is the layout itself.
//
// Groups: ids and outputs may be cut into `groups` of `rows` each, group g reading ids + g *
// ids_group_stride and writing out + g * out_group_stride (the token decoder's windows: L_B - 1
// tokens behind P prefix rows). groups = 1 is the plain case. `batches` of such groups follow one
// another every ids_batch_stride ids and out_batch_stride elements (the sequences of a
// micro-batch). CUDA sorts (id, row) pairs and sums each id's rows in a fixed order. An id outside
// [0, vocab) is an internal error (the loader has refused it long before).
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

struct EmbeddingShape {
  std::int64_t groups = 1, rows = 0, width = 0, vocab = 0;
  std::int64_t stride = 0;            // elements between rows of out/dout within a group
  std::int64_t ids_group_stride = 0;  // ids between groups
  std::int64_t out_group_stride = 0;  // elements between groups of out/dout
  std::int64_t batches = 1, ids_batch_stride = 0, out_batch_stride = 0;
};

template <typename T>
struct EmbeddingForward {
  EmbeddingShape shape;
  const std::int32_t* ids = nullptr;
  const T* table = nullptr;
  T* out = nullptr;
};

template <typename T>
struct EmbeddingBackward {
  EmbeddingShape shape;
  const std::int32_t* ids = nullptr;
  const T* dout = nullptr;
  Wide<T>* dtable = nullptr;  // [vocab, width], added to
};

namespace cpu {
template <typename T>
void embedding_forward(const EmbeddingForward<T>& args);
template <typename T>
void embedding_backward(const EmbeddingBackward<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void embedding_forward(const Queue& queue, const EmbeddingForward<T>& args);
template <typename T>
void embedding_backward(const Queue& queue, const EmbeddingBackward<T>& args);
}  // namespace cuda

template <typename T>
void embedding_forward(const Queue& queue, const EmbeddingForward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::embedding_forward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::embedding_forward(args);
  refuse(queue, "embedding_forward");
}

template <typename T>
void embedding_backward(const Queue& queue, const EmbeddingBackward<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::embedding_backward(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::embedding_backward(args);
  refuse(queue, "embedding_backward");
}

}  // namespace tessera::kernels
