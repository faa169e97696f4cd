// The ways attention is computed on the CPU. Each keeps the whole contract of kernels/attention.h,
// `rows` and `tiles` for every shape; attention.cpp picks the one that suits a shape, and the tests
// compare them.
#pragma once

#include "kernels/attention.h"

namespace tessera::kernels::cpu {

// Registers: windows of up to kTinyWindow keys whose rows fit a few vectors.
template <typename T>
bool attention_is_tiny(const AttentionShape& shape);
template <typename T>
void attention_forward_tiny(const AttentionForward<T>& args);
template <typename T>
void attention_backward_tiny(const AttentionBackward<T>& args);

// Query by query: decoding, where every key is read once.
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
