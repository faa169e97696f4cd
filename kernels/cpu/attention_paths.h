// The ways attention is computed on the CPU. Every one keeps the whole contract of
// kernels/attention.h for every shape; attention.cpp picks the one that suits a shape, and the
// tests compare them.
#pragma once

#include "kernels/attention.h"

namespace tessera::kernels::cpu {

// Query by query: short windows and decoding.
template <typename T>
void attention_forward_rows(const AttentionForward<T>& args);
template <typename T>
void attention_backward_rows(const AttentionBackward<T>& args);

// As matrix products over tiles of queries: long windows.
template <typename T>
void attention_forward_tiles(const AttentionForward<T>& args);
template <typename T>
void attention_backward_tiles(const AttentionBackward<T>& args);

}  // namespace tessera::kernels::cpu
